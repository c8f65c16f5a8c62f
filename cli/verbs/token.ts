import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import { systemClock } from '#base/clock.ts';
import {
  BOOTSTRAP_TOKEN_NAMESPACE,
  BOOTSTRAP_TOKEN_TYPE,
  type BootstrapToken,
  bootstrapTokenName,
  JOINING_NODES_GROUP,
  parseBootstrapToken,
  TOKEN_SHAPE,
  tokenExpiryMs,
  tokenField,
} from '#api/bootstrap-token.ts';
import { isStatusError } from '#api/status.ts';
import { formatAge, formatTime, parseDuration } from '#api/time.ts';
import type { Secret } from '#api/types.ts';
import { secrets } from '#client/resources.ts';
import { type ClientContext, type ClientFlags, clientFlags, withClient } from '#cli/context.ts';
import { publicKeyHash } from '#cli/discovery.ts';
import { allowJoining, serverUrl } from '#cli/joining-objects.ts';
import { formatRows } from '#cli/output.ts';
import { UserError, type Verb } from '#cli/verb.ts';

type CreateFlags = ClientFlags & {
  ttl: string;
  description?: string;
  groups: string;
  printJoinCommand?: boolean;
};

export const token: Verb = {
  name: 'token',
  summary: 'make and list the tokens with which machines join the cluster',
  configure(command: Command) {
    const sub = (name: string, summary: string): Command =>
      clientFlags(command.command(name).description(summary));
    sub('create', 'make a token, and let those who hold one join')
      .argument('[token]', `the token itself (${TOKEN_SHAPE}); default: by chance`)
      .option('--ttl <duration>', 'how long it holds; 0: for ever', '24h')
      .option('--description <text>', 'what it is for')
      .option('--groups <names>', 'groups of those who hold it', JOINING_NODES_GROUP)
      .option('--print-join-command', 'print the whole command for the other machine')
      .action((given: string | undefined, flags: CreateFlags) =>
        withClient(flags, (context) => create(context, given, flags)),
      );
    sub('list', 'show the tokens').action((flags: ClientFlags) => withClient(flags, list));
    sub('delete', 'end a token before its time')
      .argument('<token>', 'the token, or the six characters before its dot')
      .action((given: string, flags: ClientFlags) =>
        withClient(flags, (context) => remove(context, given)),
      );
  },
};

async function create(
  { api, connection }: ClientContext,
  given: string | undefined,
  flags: CreateFlags,
): Promise<void> {
  const made = given === undefined ? randomToken() : parseBootstrapToken(given);
  if (!made) throw new UserError(`"${given}" is no token: it has ${TOKEN_SHAPE}`);
  const groups = flags.groups.split(',');
  const strange = groups.find((name) => !name.startsWith('system:bootstrappers:'));
  if (strange !== undefined)
    throw new UserError(`--groups: "${strange}" must begin with system:bootstrappers:`);
  const ca = connection.ca ?? '';
  if (!ca) throw new UserError('the kubeconfig has no authority that joining nodes could verify');
  await allowJoining(api, { ca });
  const secret = secretOf(made, { ...flags, groups, ttlMs: ttlMs(flags.ttl) });
  await api.create(secrets, secret).catch((error: unknown) => {
    if (!isStatusError(error, 'AlreadyExists')) throw error;
    throw new UserError(
      `there is a token ${made.id} already; choose another, or run "gantry token delete ${made.id}"`,
    );
  });
  const text = `${made.id}.${made.secret}`;
  if (!flags.printJoinCommand) return console.log(text);
  const server = await serverUrl(api);
  console.log(`gantry join --server ${server} --token ${text} --ca-cert-hash ${publicKeyHash(ca)}`);
}

function ttlMs(text: string): number {
  const ms = parseDuration(text);
  if (ms !== undefined && ms >= 0) return ms;
  throw new UserError(`--ttl takes a duration like 24h or 30m, not "${text}"`);
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';

function randomToken(): BootstrapToken {
  // Bytes above the largest multiple of 36 are left out, so that all letters are as likely.
  const usable = 256 - (256 % LETTERS.length);
  let text = '';
  while (text.length < 22) {
    for (const byte of randomBytes(32)) if (byte < usable) text += LETTERS[byte % LETTERS.length];
  }
  return { id: text.slice(0, 6), secret: text.slice(6, 22) };
}

type TokenOptions = { description?: string; groups: readonly string[]; ttlMs: number };

function secretOf({ id, secret }: BootstrapToken, options: TokenOptions): Secret {
  const { description, groups, ttlMs: lifeMs } = options;
  return {
    metadata: { namespace: BOOTSTRAP_TOKEN_NAMESPACE, name: bootstrapTokenName(id) },
    type: BOOTSTRAP_TOKEN_TYPE,
    stringData: {
      'token-id': id,
      'token-secret': secret,
      'usage-bootstrap-authentication': 'true',
      'usage-bootstrap-signing': 'true',
      'auth-extra-groups': groups.join(','),
      ...(description ? { description } : {}),
      ...(lifeMs > 0 ? { expiration: formatTime(systemClock.now() + lifeMs) } : {}),
    },
  };
}

async function list({ api }: ClientContext): Promise<void> {
  const fieldSelector = `type=${BOOTSTRAP_TOKEN_TYPE}`;
  const namespace = BOOTSTRAP_TOKEN_NAMESPACE;
  const { items } = await api.list(secrets, { namespace, fieldSelector });
  const rows = items.map((secret) => {
    const field = (name: string): string => tokenField(secret, name);
    const usages = ['authentication', 'signing'].filter(
      (usage) => field(`usage-bootstrap-${usage}`) === 'true',
    );
    const text = `${field('token-id')}.${field('token-secret')}`;
    return [text, left(secret), usages.join(','), field('auth-extra-groups'), field('description')];
  });
  const head = ['TOKEN', 'TTL', 'USAGES', 'GROUPS', 'DESCRIPTION'];
  if (rows.length > 0) process.stdout.write(formatRows([head, ...rows]));
  else console.error('There are no tokens. Make one with: gantry token create');
}

function left(secret: Secret): string {
  const leftMs = tokenExpiryMs(secret) - systemClock.now();
  if (leftMs === Number.POSITIVE_INFINITY) return '<forever>';
  return leftMs > 0 ? formatAge(leftMs) : '<expired>';
}

async function remove({ api }: ClientContext, given: string): Promise<void> {
  const id = parseBootstrapToken(given)?.id ?? given;
  const key = { namespace: BOOTSTRAP_TOKEN_NAMESPACE, name: bootstrapTokenName(id) };
  await api.delete(secrets, key).catch((error: unknown) => {
    if (!isStatusError(error, 'NotFound')) throw error;
    throw new UserError(`there is no token ${id}; "gantry token list" shows those there are`);
  });
  console.log(`Token ${id} is gone; nodes that have joined with it stay.`);
}
