import type { Verb } from '#api/kind.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** What a request is about, read off its method and URL. Source: Kubernetes "Request verbs". */
export type RequestInfo = {
  method: string;
  /** Path without query. */
  path: string;
  query: URLSearchParams;
  /** False for /healthz, /openapi, discovery and the like. */
  isResource: boolean;
  /** Resource requests: the API verb; others: the method in lower case. */
  verb: Verb | (string & {});
  group: string;
  version: string;
  /** Plural; '' when not a resource request. */
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
  /** Collection requests: the name that `fieldSelector=metadata.name=x` asks for; for authorization. */
  selectedName?: string;
  /** What follows the subresource (proxy paths), with its leading slash; '' if nothing does. */
  rest: string;
};

/** The server's own door: HTTPS and in-process callers hand in the same thing. */
export type ServerRequest = {
  method: string;
  /** Path with query. */
  url: string;
  /** Lower-case names. */
  headers: Readonly<Record<string, string | undefined>>;
  body: Uint8Array | null;
  /** Aborts when the client has gone. */
  signal: AbortSignal;
  /** Set for in-process callers and for verified client certificates; else authentication decides. */
  user?: UserInfo;
  /** Address of the other end of the connection; absent for in-process callers. */
  remoteAddress?: string;
  /** Common name of a verified front-proxy client certificate: its X-Remote-* headers are believed. */
  frontProxy?: string;
};

/** One whole body, or chunks as they come. */
export type ServerResponse = {
  status: number;
  headers: Record<string, string>;
  body: Uint8Array | string | AsyncIterable<Uint8Array>;
};

export type Handler = (request: ServerRequest) => Promise<ServerResponse>;
