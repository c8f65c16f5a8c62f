import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import { lookupBootstrapToken } from '#apiserver/authn/bootstrap-tokens.ts';
import { UNAUTHENTICATED, withAuthenticated } from '#apiserver/authn/client-certificate.ts';
import type {
  ServiceAccountTokens,
  TokenVerdict,
} from '#apiserver/authn/service-account-tokens.ts';
import { openTokenFile } from '#apiserver/authn/token-file.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import type { ServerRequest } from '#apiserver/request.ts';
import type { UserInfo } from '#apiserver/user.ts';

export type Authenticator = {
  /** Who makes the request; null = it shows credentials that nobody accepts (401). */
  authenticate(request: ServerRequest): Promise<UserInfo | null>;
  /** Whose token this is; `audiences` empty = the server's own. */
  reviewToken: (token: string, audiences: readonly string[]) => Promise<TokenVerdict>;
};

export type AuthenticatorConfig = {
  reader: ObjectReader;
  tokens: ServiceAccountTokens;
  clock: Clock;
  log: Log;
  /** `--token-auth-file`: CSV, read again when it changes. */
  tokenAuthFile?: string | undefined;
  /** `--anonymous-auth`, default true. */
  anonymous?: boolean | undefined;
};

export const ANONYMOUS: UserInfo = { name: 'system:anonymous', groups: [UNAUTHENTICATED] };

/**
 * Asked in this order: front-proxy headers, the connection's own user (client certificate or
 * in-process caller), static tokens, service account tokens, bootstrap tokens; without any
 * credentials the request is anonymous.
 */
export function createAuthenticator(config: AuthenticatorConfig): Authenticator {
  const { reader, tokens, clock } = config;
  const file = config.tokenAuthFile
    ? openTokenFile(config.tokenAuthFile, { clock, log: config.log })
    : undefined;
  const withoutCredentials = config.anonymous === false ? null : ANONYMOUS;

  const reviewToken = async (
    token: string,
    audiences: readonly string[],
  ): Promise<TokenVerdict> => {
    const wanted = audiences.length > 0 ? audiences : tokens.audiences;
    const common = wanted.filter((audience) => tokens.audiences.includes(audience));
    // Tokens without audiences are meant for this server alone.
    const known =
      common.length > 0
        ? (file?.lookup(token) ?? lookupBootstrapToken(token, reader, clock.now()))
        : undefined;
    if (known) return { ok: true, user: known, audiences: common };
    const verdict = await tokens.verify(token, wanted);
    return verdict ?? { ok: false, error: 'invalid bearer token' };
  };

  return {
    reviewToken,
    async authenticate(request) {
      if (request.frontProxy !== undefined) {
        const user = remoteUser(request.headers);
        if (user) return user;
      }
      if (request.user) return request.user;
      const token = bearerToken(request.headers);
      if (token === '') return withoutCredentials;
      const verdict = await reviewToken(token, []);
      return verdict.ok ? verdict.user : null;
    },
  };
}

const WEBSOCKET_BEARER = 'base64url.bearer.authorization.k8s.io.';

/** The token of `Authorization: Bearer`, or of the WebSocket subprotocol; '' when there is none. */
export function bearerToken(headers: ServerRequest['headers']): string {
  const authorization = headers['authorization'];
  if (authorization) {
    const [scheme, token] = authorization.trim().split(' ', 2);
    if (scheme?.toLowerCase() === 'bearer' && token) return token;
  }
  const protocols = headers['sec-websocket-protocol'];
  if (!protocols?.includes(WEBSOCKET_BEARER)) return '';
  const offered = protocols.split(',').map((protocol) => protocol.trim());
  const found = offered.find((protocol) => protocol.startsWith(WEBSOCKET_BEARER));
  return Buffer.from(found?.slice(WEBSOCKET_BEARER.length) ?? '', 'base64url').toString('utf8');
}

/** The user that a trusted proxy vouches for. Source: "Authenticating", authenticating proxy. */
function remoteUser(headers: ServerRequest['headers']): UserInfo | undefined {
  const name = headers['x-remote-user'];
  if (!name) return undefined;
  const extra = extrasOf(headers, 'x-remote-extra-');
  const uid = headers['x-remote-uid'];
  return {
    name,
    ...(uid ? { uid } : {}),
    groups: withAuthenticated(headerValues(headers['x-remote-group'])),
    ...(extra ? { extra } : {}),
  };
}

/** A header that may be repeated; the server has joined its values with a comma and a space. */
export const headerValues = (value: string | undefined): string[] =>
  value === undefined || value === '' ? [] : value.split(', ');

/** Headers `PREFIX<key>: value`; keys are lower-case and percent-encoded. */
export function extrasOf(
  headers: ServerRequest['headers'],
  prefix: string,
): Record<string, string[]> | undefined {
  let extra: Record<string, string[]> | undefined;
  for (const [name, value] of Object.entries(headers)) {
    if (!name.startsWith(prefix) || value === undefined) continue;
    extra ??= {};
    extra[unescapeKey(name.slice(prefix.length))] = headerValues(value);
  }
  return extra;
}

function unescapeKey(key: string): string {
  try {
    return decodeURIComponent(key).toLowerCase();
  } catch {
    return key;
  }
}
