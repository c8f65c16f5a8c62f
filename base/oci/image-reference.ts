/** An image's name in full: `docker.io/library/busybox:1.35`, or with `@sha256:…`. */
export type Reference = {
  host: string;
  repository: string;
  /** `latest` when neither tag nor digest is named. */
  tag?: string;
  digest?: string;
};

const HOST =
  /^(localhost|[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9-]+(?=:\d)|\[[0-9a-fA-F:]+\])(:\d+)?$/;
const REPOSITORY = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;

/**
 * Reads an image name as users write it. Throws an Error for what is none.
 * Source: OCI distribution specification, "Pulling manifests"; Docker's short names.
 */
export function parseReference(name: string): Reference {
  const bad = (): never => {
    throw new Error(`image "${name}": invalid reference format`);
  };
  const [named = '', digest, ...more] = name.split('@');
  if (more.length > 0 || (digest !== undefined && !DIGEST.test(digest))) return bad();
  const colon = named.lastIndexOf(':');
  const hasTag = colon > named.lastIndexOf('/');
  const tag = hasTag ? named.slice(colon + 1) : undefined;
  const path = hasTag ? named.slice(0, colon) : named;
  const slash = path.indexOf('/');
  const first = path.slice(0, Math.max(slash, 0));
  const hasHost = HOST.test(first);
  const host = hasHost && first !== 'index.docker.io' ? first : 'docker.io';
  const rest = hasHost ? path.slice(slash + 1) : path;
  const repository = host === 'docker.io' && !rest.includes('/') ? `library/${rest}` : rest;
  if (!REPOSITORY.test(repository) || (tag !== undefined && !TAG.test(tag))) return bad();
  return {
    host,
    repository,
    ...(tag === undefined ? (digest ? {} : { tag: 'latest' }) : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

/** The name with its tag, as `repoTags` lists it; undefined when it names a digest only. */
export const taggedName = ({ host, repository, tag }: Reference): string | undefined =>
  tag === undefined ? undefined : `${host}/${repository}:${tag}`;

export const digestName = ({ host, repository }: Reference, digest: string): string =>
  `${host}/${repository}@${digest}`;
