import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { parseDuration } from '#api/time.ts';
import { sha256 } from '#base/sha256.ts';
import type { Pod, ServiceAccount } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import type { PullServiceAccount } from '#node-agent/images/pull-records.ts';
import { matchesImage, registryOf } from '#node-agent/images/registry-auth.ts';
import { isStatic } from '#node-agent/pods/static-pods.ts';
import type { PodTokens } from '#node-agent/storage/volume-type.ts';
import type { AuthConfig } from '#node-agent/runtime/service.ts';

/**
 * Programs that give credentials for images, as clouds ship them for the kubelet.
 * Source: Kubernetes "Configure a kubelet image credential provider"; credentialprovider.kubelet.k8s.io/v1.
 */
export type CredentialProvider = {
  name: string;
  apiVersion: string;
  /** Hosts with `*` for parts, perhaps a port and a path. */
  matchImages: readonly string[];
  defaultCacheDurationMs: number;
  args: readonly string[];
  env: Readonly<Record<string, string>>;
  /** Absolute path of the program. */
  program: string;
  /** Set when it is given a token of the pod's service account. */
  token?: TokenAttributes | undefined;
};

/** Source: KEP-4412, CredentialProviderConfig.providers[].tokenAttributes. */
export type TokenAttributes = {
  serviceAccountTokenAudience: string;
  /** Whether an answer holds for the token alone, or for the service account. */
  cacheType: 'Token' | 'ServiceAccount';
  requireServiceAccount: boolean;
  requiredServiceAccountAnnotationKeys: readonly string[];
  optionalServiceAccountAnnotationKeys: readonly string[];
};

const CONFIG_VERSIONS = /^kubelet\.config\.k8s\.io\/v1(alpha1|beta1)?$/;
const PLUGIN_VERSIONS = /^credentialprovider\.kubelet\.k8s\.io\/v1(alpha1|beta1)?$/;
/** A program that hangs must not hold up a pull for ever. Upstream's time. */
const TIMEOUT_MS = 60_000;
/** More output than this is no answer. */
const MAX_OUTPUT_BYTES = 1024 * 1024;
/** Remembered answers; a node has few registries. */
const MAX_CACHED = 256;

type ProviderFields = {
  name?: unknown;
  apiVersion?: unknown;
  matchImages?: unknown;
  defaultCacheDuration?: unknown;
  args?: string[];
  env?: { name: string; value: string }[];
  tokenAttributes?: unknown;
};

/** Reads a CredentialProviderConfig. Throws a ConfigError that names the file and the entry. */
export function readProviders(configFile: string, binDir: string): CredentialProvider[] {
  const bad = (what: string): ConfigError => new ConfigError(`${configFile}: ${what}`);
  let config: { kind?: unknown; apiVersion?: unknown; providers?: ProviderFields[] } | null;
  try {
    config = parse(readFileSync(configFile, 'utf8')) as typeof config;
  } catch (error) {
    throw bad(errorText(error));
  }
  if (config?.kind !== 'CredentialProviderConfig')
    throw bad('kind must be CredentialProviderConfig');
  if (!CONFIG_VERSIONS.test(String(config.apiVersion)))
    throw bad(`apiVersion must be kubelet.config.k8s.io/v1, not ${String(config.apiVersion)}`);
  const providers = (config.providers ?? []).map((of, index) =>
    readProvider(of, binDir, (what) => bad(`providers[${index}]${what}`)),
  );
  if (providers.length === 0) throw bad('providers: at least one is required');
  const names = providers.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw bad(`providers: ${twice} is named twice`);
  return providers;
}

function readProvider(
  of: ProviderFields,
  binDir: string,
  bad: (what: string) => ConfigError,
): CredentialProvider {
  const { name, apiVersion, matchImages, args = [], env = [] } = of;
  if (typeof name !== 'string' || name === '' || name.includes('/'))
    throw bad('.name: a file name in --image-credential-provider-bin-dir is required');
  if (!PLUGIN_VERSIONS.test(String(apiVersion)))
    throw bad(
      `.apiVersion must be credentialprovider.kubelet.k8s.io/v1, not ${String(apiVersion)}`,
    );
  if (!Array.isArray(matchImages) || matchImages.length === 0)
    throw bad('.matchImages: at least one is required');
  const defaultCacheDurationMs = parseDuration(String(of.defaultCacheDuration ?? ''));
  if (defaultCacheDurationMs === undefined || defaultCacheDurationMs < 0)
    throw bad('.defaultCacheDuration: a duration like 12h is required');
  const token = of.tokenAttributes === undefined ? undefined : readToken(of.tokenAttributes, bad);
  if (token && !String(apiVersion).endsWith('/v1'))
    throw bad('.tokenAttributes needs apiVersion credentialprovider.kubelet.k8s.io/v1');
  const program = join(binDir, name);
  try {
    accessSync(program, constants.X_OK);
  } catch {
    throw bad(`.name: there is no program ${program}`);
  }
  return {
    name,
    apiVersion: String(apiVersion),
    matchImages: matchImages.map(String),
    defaultCacheDurationMs,
    args,
    env: Object.fromEntries(env.map((entry) => [entry.name, entry.value])),
    program,
    ...(token ? { token } : {}),
  };
}

function readToken(of: unknown, bad: (what: string) => ConfigError): TokenAttributes {
  const at = (field: string): string => `.tokenAttributes.${field}`;
  const {
    serviceAccountTokenAudience,
    cacheType,
    requireServiceAccount,
    requiredServiceAccountAnnotationKeys: required = [],
    optionalServiceAccountAnnotationKeys: optional = [],
  } = (of ?? {}) as Record<string, unknown>;
  if (typeof serviceAccountTokenAudience !== 'string' || serviceAccountTokenAudience === '')
    throw bad(`${at('serviceAccountTokenAudience')}: the audience of the token is required`);
  if (cacheType !== 'Token' && cacheType !== 'ServiceAccount')
    throw bad(`${at('cacheType')} must be Token or ServiceAccount`);
  if (typeof requireServiceAccount !== 'boolean')
    throw bad(`${at('requireServiceAccount')}: true or false is required`);
  if (!isKeys(required)) throw bad(`${at('requiredServiceAccountAnnotationKeys')}: unique texts`);
  if (!isKeys(optional)) throw bad(`${at('optionalServiceAccountAnnotationKeys')}: unique texts`);
  if (required.length > 0 && !requireServiceAccount)
    throw bad(`${at('requireServiceAccount')} must be true where annotations are required`);
  const both = required.find((key) => optional.includes(key));
  if (both !== undefined)
    throw bad(`.tokenAttributes: annotation ${both} is both required and optional`);
  return {
    serviceAccountTokenAudience,
    cacheType,
    requireServiceAccount,
    requiredServiceAccountAnnotationKeys: required,
    optionalServiceAccountAnnotationKeys: optional,
  };
}

const isKeys = (value: unknown): value is string[] =>
  Array.isArray(value) &&
  value.every((key) => typeof key === 'string') &&
  new Set(value).size === value.length;

type Answer = {
  kind?: unknown;
  apiVersion?: unknown;
  cacheKeyType?: unknown;
  cacheDuration?: unknown;
  auth?: Record<string, { username?: string; password?: string }> | null;
};

type Found = { auth: Answer['auth']; untilMs: number };

/** `account` is set where they are of the pod's service account, and of no other pod's use. */
export type NodeCredential = { auth: AuthConfig; account?: PullServiceAccount | undefined };

/** Gives the credentials of an image for a pod, best match first; [] when no provider has any. */
export type CredentialSource = (image: string, pod: Pod) => Promise<NodeCredential[]>;

/** What providers that want a token need of the cluster. */
export type AccountSource = {
  account(namespace: string, name: string): Promise<ServiceAccount | undefined>;
  tokens: PodTokens;
};

/** The kubelet asks for tokens of this life. */
const TOKEN_SECONDS = 3600;

/** What a program is told of the pod's service account, and under which key its answer is kept. */
type Wish = {
  key: string;
  account?: PullServiceAccount;
  request: { serviceAccountToken?: string; serviceAccountAnnotations?: Record<string, string> };
};
const NO_ACCOUNT: Wish = { key: '', request: {} };

export type ProviderFlags = { configFile: string; binDir: string };

/** The source that the node's flags name; undefined when they name none. */
export function credentialSource(
  from: ProviderFlags | undefined,
  around: { clock: Clock; log: Log; accounts: AccountSource },
): CredentialSource | undefined {
  return from && createCredentialSource(readProviders(from.configFile, from.binDir), around);
}

/** Asks the programs that match, and remembers their answers for as long as they say. */
export function createCredentialSource(
  providers: readonly CredentialProvider[],
  { clock, log, accounts }: { clock: Clock; log: Log; accounts: AccountSource },
): CredentialSource {
  const cache = new Map<string, Found>();
  const asked = new Map<string, Promise<Found['auth']>>();

  const keysOf = (name: string, image: string, wish: Wish): string[] => [
    `${name} Image ${image} ${wish.key}`,
    `${name} Registry ${registryOf(image)} ${wish.key}`,
    `${name} Global ${wish.key}`,
  ];

  async function authOf(
    provider: CredentialProvider,
    image: string,
    wish: Wish,
  ): Promise<Found['auth']> {
    for (const key of keysOf(provider.name, image, wish)) {
      const known = cache.get(key);
      if (known && known.untilMs > clock.now()) return known.auth;
      cache.delete(key);
    }
    const key = `${provider.name} ${image} ${wish.key}`;
    const running =
      asked.get(key) ?? askAnew(provider, image, wish).finally(() => asked.delete(key));
    asked.set(key, running);
    return running;
  }

  async function askAnew(
    provider: CredentialProvider,
    image: string,
    wish: Wish,
  ): Promise<Found['auth']> {
    const answer = await ask(provider, image, wish);
    const [ofImage = '', ofRegistry = '', global = ''] = keysOf(provider.name, image, wish);
    const keys: Record<string, string> = { Image: ofImage, Registry: ofRegistry, Global: global };
    const cacheKey = keys[String(answer.cacheKeyType)];
    if (cacheKey === undefined)
      throw new Error(
        `cacheKeyType must be Image, Registry or Global, not ${String(answer.cacheKeyType)}`,
      );
    const said = answer.cacheDuration ? parseDuration(String(answer.cacheDuration)) : undefined;
    const holdsMs = said ?? provider.defaultCacheDurationMs;
    if (holdsMs > 0) {
      if (cache.size >= MAX_CACHED) cache.clear();
      cache.set(cacheKey, { auth: answer.auth, untilMs: clock.now() + holdsMs });
    }
    return answer.auth;
  }

  /** What the provider is told of the pod; undefined when it has no use for this pod. */
  async function wishOf({ token: wants }: CredentialProvider, pod: Pod): Promise<Wish | undefined> {
    if (!wants) return NO_ACCOUNT;
    const { namespace = '' } = pod.metadata;
    const name = isStatic(pod) ? '' : (pod.spec.serviceAccountName ?? '');
    if (name === '') return wants.requireServiceAccount ? undefined : NO_ACCOUNT;
    const found = await accounts.account(namespace, name);
    if (!found) throw new Error(`serviceaccount "${namespace}/${name}" not found`);
    const annotations: Record<string, string> = {};
    const { requiredServiceAccountAnnotationKeys: required } = wants;
    for (const key of [...required, ...wants.optionalServiceAccountAnnotationKeys]) {
      const value = found.metadata.annotations?.[key];
      if (value !== undefined) annotations[key] = value;
      else if (required.includes(key)) return undefined;
    }
    const { serviceAccountTokenAudience: audience, cacheType } = wants;
    const token = await accounts.tokens.token(pod, audience, TOKEN_SECONDS);
    const { uid = '' } = found.metadata;
    const of = [namespace, name, uid, annotations, cacheType === 'Token' ? sha256(token) : ''];
    return {
      key: JSON.stringify(of),
      account: { uid, namespace, name },
      request: { serviceAccountToken: token, serviceAccountAnnotations: annotations },
    };
  }

  return async (image, pod) => {
    const found: { place: string; of: NodeCredential }[] = [];
    for (const provider of providers) {
      if (!provider.matchImages.some((place) => matchesImage(place, image))) continue;
      try {
        const wish = await wishOf(provider, pod);
        if (!wish) continue;
        const auth = (await authOf(provider, image, wish)) ?? {};
        for (const [place, { username = '', password = '' }] of Object.entries(auth)) {
          if (!matchesImage(place, image)) continue;
          const given = { serverAddress: registryOf(image), username, password };
          const of = { auth: given, ...(wish.account ? { account: wish.account } : {}) };
          found.push({ place, of });
        }
      } catch (error) {
        // The pull goes on without: the registry then says what it thinks of that.
        log.warn('a credential provider failed', {
          provider: provider.name,
          image,
          error: errorText(error),
        });
      }
    }
    return found.toSorted((a, b) => b.place.length - a.place.length).map(({ of }) => of);
  };
}

/** Runs the program once: the request on its standard input, the answer on its output. */
async function ask(provider: CredentialProvider, image: string, wish: Wish): Promise<Answer> {
  const { apiVersion, program, args, env } = provider;
  const request = { apiVersion, kind: 'CredentialProviderRequest', image, ...wish.request };
  const text = await runProgram(program, args, { env, input: JSON.stringify(request) });
  const answer = JSON.parse(text) as Answer | null;
  if (answer?.kind !== 'CredentialProviderResponse' || answer.apiVersion !== apiVersion)
    throw new Error(`answered no CredentialProviderResponse of ${apiVersion}`);
  return answer;
}

function runProgram(
  program: string,
  args: readonly string[],
  { env, input }: { env: Readonly<Record<string, string>>; input: string },
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: { ...process.env, ...env },
      stdio: 'pipe',
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    let output = '';
    let complaint = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString('utf8');
      if (output.length > MAX_OUTPUT_BYTES) child.kill('SIGKILL');
    });
    child.stderr.on('data', (chunk: Buffer) => {
      if (complaint.length < MAX_OUTPUT_BYTES) complaint += chunk.toString('utf8');
    });
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output);
      else reject(new Error(`it ended with ${signal ?? `code ${code}`}: ${complaint.trim()}`));
    });
    // A program that reads nothing still may answer.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}
