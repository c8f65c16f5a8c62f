import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '#base/clock.ts';
import type { KubeObject } from '#api/types.ts';
import type { Api, Resource } from '#client/api.ts';
import { errorText } from '#base/log.ts';
import { RequestError } from '#node-agent/server/server-streams.ts';

/** The API server of our own cluster: it has asked its authorizer before it came here. */
const API_SERVER = 'gantry:apiserver-kubelet-client';
/** Whatever they ask for is allowed by definition, also while the API server is away. */
const ADMINISTRATORS = 'system:masters';
const AUTHENTICATED = 'system:authenticated';

/** How long answers hold. Source: KubeletConfiguration, authentication and authorization webhook. */
const TOKEN_TTL_MS = 2 * 60_000;
const ALLOWED_TTL_MS = 5 * 60_000;
const DENIED_TTL_MS = 30_000;
/** Answers remembered at a time, of each sort. */
const MAX_REMEMBERED = 1_000;

const tokenReviews: Resource = {
  group: 'authentication.k8s.io',
  version: 'v1',
  resource: 'tokenreviews',
  kind: 'TokenReview',
  namespaced: false,
};
const accessReviews: Resource = {
  group: 'authorization.k8s.io',
  version: 'v1',
  resource: 'subjectaccessreviews',
  kind: 'SubjectAccessReview',
  namespaced: false,
};

export type Caller = {
  name: string;
  uid?: string;
  groups: readonly string[];
  extra?: Readonly<Record<string, readonly string[]>>;
};

/** Who calls, as far as the connection and the headers tell. */
export type Credentials = {
  certificate?: { name: string; groups: readonly string[] } | undefined;
  token?: string | undefined;
};

/** What a request to the agent's server means in terms of roles. */
export type Wish = { verb: string; subresources: readonly string[] };

const VERBS: Readonly<Record<string, string>> = {
  POST: 'create',
  GET: 'get',
  HEAD: 'get',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};

/** First parts of paths that have a subresource of their own. */
const SUBRESOURCES: Readonly<Record<string, readonly string[]>> = {
  stats: ['stats'],
  metrics: ['metrics'],
  logs: ['log'],
  checkpoint: ['checkpoint'],
  statusz: ['statusz'],
  // As the kubelet of 1.36 asks: flags are settings.
  flagz: ['configz'],
  // Finer rights that stand beside the older one for everything.
  pods: ['pods', 'proxy'],
  runningpods: ['pods', 'proxy'],
  configz: ['configz', 'proxy'],
  healthz: ['healthz', 'proxy'],
};

/**
 * The right a request needs: a verb on `nodes/<subresource>`, any one of those named.
 * Source: Kubernetes documentation, "Kubelet authentication/authorization"; KEP-2862.
 */
export function wishOf(method: string, path: string): Wish {
  const first = path.split('/').find(Boolean) ?? '';
  return { verb: VERBS[method] ?? 'get', subresources: SUBRESOURCES[first] ?? ['proxy'] };
}

/** Reads the credentials of a request. A certificate of another authority counts as none. */
export function credentialsOf(request: IncomingMessage): Credentials {
  const socket = request.socket as TLSSocket;
  const subject = socket.authorized ? socket.getPeerCertificate().subject : undefined;
  const name = [subject?.CN].flat()[0];
  const bearer = /^bearer +(\S+) *$/i.exec(request.headers.authorization ?? '');
  return {
    certificate: name ? { name, groups: [subject?.O].flat().filter(isText) } : undefined,
    token: bearer?.[1],
  };
}

/** Whether a caller is another node of this cluster: its certificate says so, and is verified. */
export const isNode = ({ certificate }: Credentials): boolean =>
  certificate !== undefined &&
  certificate.name.startsWith('system:node:') &&
  certificate.groups.includes('system:nodes');

const isText = (value: string | undefined): value is string => Boolean(value);

export type ServerAccess = {
  /** Resolves to the caller when the request may go on; RequestError 401, 403 or 500 otherwise. */
  check(credentials: Credentials, wish: Wish): Promise<Caller>;
};

/** Asks the API server who callers are and what they may do, and remembers its answers a while. */
export function createAccess(api: Api, nodeName: string, clock: Clock): ServerAccess {
  const callers = new Remembered<Caller | undefined>(clock);
  const decisions = new Remembered<boolean>(clock);

  async function callerOf({ certificate, token }: Credentials): Promise<Caller | undefined> {
    if (certificate)
      return { name: certificate.name, groups: [...certificate.groups, AUTHENTICATED] };
    if (!token) return undefined;
    const key = createHash('sha256').update(token).digest('base64');
    return callers.get(key, async () => {
      const value = await reviewToken(api, token);
      return { value, holdsMs: value ? TOKEN_TTL_MS : 0 };
    });
  }

  async function mayOne(caller: Caller, verb: string, subresource: string): Promise<boolean> {
    const { name, uid, groups, extra } = caller;
    const key = JSON.stringify([name, uid, groups, extra, verb, subresource]);
    return decisions.get(key, async () => {
      const value = await reviewAccess(api, caller, { nodeName, verb, subresource });
      return { value, holdsMs: value ? ALLOWED_TTL_MS : DENIED_TTL_MS };
    });
  }

  return {
    async check(credentials, wish) {
      const caller = await callerOf(credentials).catch(() => undefined);
      if (!caller) throw new RequestError(401, 'Unauthorized');
      if (caller.name === API_SERVER && credentials.certificate) return caller;
      if (caller.groups.includes(ADMINISTRATORS)) return caller;
      const { verb, subresources } = wish;
      const about = `(user=${caller.name}, verb=${verb}, resource=nodes, subresource(s)=[${subresources.join(' ')}])`;
      try {
        for (const subresource of subresources)
          if (await mayOne(caller, verb, subresource)) return caller;
      } catch (error) {
        throw new RequestError(500, `Authorization error ${about}: ${errorText(error)}`);
      }
      throw new RequestError(403, `Forbidden ${about}`);
    },
  };
}

async function reviewToken(api: Api, token: string): Promise<Caller | undefined> {
  const answer: KubeObject = await api.create(tokenReviews, {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenReview',
    metadata: {},
    spec: { token },
  });
  const { authenticated, user } = (answer.status ?? {}) as {
    authenticated?: boolean;
    user?: { username?: string; uid?: string; groups?: string[]; extra?: Record<string, string[]> };
  };
  if (!authenticated || !user?.username) return undefined;
  const { username, uid, groups = [], extra } = user;
  const known = groups.includes(AUTHENTICATED) ? groups : [...groups, AUTHENTICATED];
  return { name: username, groups: known, ...(uid ? { uid } : {}), ...(extra ? { extra } : {}) };
}

async function reviewAccess(
  api: Api,
  { name, uid, groups, extra }: Caller,
  { nodeName, verb, subresource }: { nodeName: string; verb: string; subresource: string },
): Promise<boolean> {
  const answer: KubeObject = await api.create(accessReviews, {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SubjectAccessReview',
    metadata: {},
    spec: {
      user: name,
      groups,
      ...(uid ? { uid } : {}),
      ...(extra ? { extra } : {}),
      resourceAttributes: { verb, version: 'v1', resource: 'nodes', subresource, name: nodeName },
    },
  });
  return (answer.status as { allowed?: boolean } | undefined)?.allowed === true;
}

/** Answers by key until they are too old. Questions asked at the same time share one answer. */
class Remembered<T> {
  readonly #clock: Clock;
  readonly #known = new Map<string, { value: Promise<T>; untilMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get(key: string, ask: () => Promise<{ value: T; holdsMs: number }>): Promise<T> {
    const known = this.#known.get(key);
    if (known && this.#clock.now() < known.untilMs) return known.value;
    this.#known.delete(key);
    const oldest = this.#known.keys().next();
    if (this.#known.size >= MAX_REMEMBERED && !oldest.done) this.#known.delete(oldest.value);
    const entry = { value: Promise.resolve() as Promise<unknown>, untilMs: Infinity };
    const value = ask().then(
      (answer) => {
        entry.untilMs = this.#clock.now() + answer.holdsMs;
        return answer.value;
      },
      (error: unknown) => {
        if (this.#known.get(key) === entry) this.#known.delete(key);
        throw error;
      },
    );
    entry.value = value;
    this.#known.set(key, entry as { value: Promise<T>; untilMs: number });
    return value;
  }
}
