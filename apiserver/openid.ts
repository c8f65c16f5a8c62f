import type { ServiceAccountTokens } from '#apiserver/authn/service-account-tokens.ts';
import type { RouteHandler } from '#apiserver/router.ts';

const JWKS_PATH = '/openid/v1/jwks';
/** Verifiers may keep the documents this long; keys change less often. */
const CACHE = 'public, max-age=3600';

/**
 * What others need to verify this cluster's service account tokens: the issuer's configuration and
 * its public keys. Source: OpenID Connect Discovery 1.0; Kubernetes "Service account issuer
 * discovery".
 */
export function openidRoute(tokens: ServiceAccountTokens, url: () => string): RouteHandler {
  return (info) => {
    if (info.isResource || info.method !== 'GET') return null;
    switch (info.path) {
      case '/.well-known/openid-configuration':
        return {
          status: 200,
          headers: { 'content-type': 'application/json', 'cache-control': CACHE },
          body: JSON.stringify({
            issuer: tokens.issuer,
            jwks_uri: url() + JWKS_PATH,
            response_types_supported: ['id_token'],
            subject_types_supported: ['public'],
            id_token_signing_alg_values_supported: [tokens.algorithm],
          }),
        };
      case JWKS_PATH:
        return tokens.keySet().then((keys) => ({
          status: 200,
          headers: { 'content-type': 'application/jwk-set+json', 'cache-control': CACHE },
          body: JSON.stringify(keys),
        }));
      default:
        return null;
    }
  };
}
