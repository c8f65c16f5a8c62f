import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import {
  type ChannelCredentials,
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { StoreUnavailableError } from '#apiserver/store/store.ts';
import { errorText } from '#base/log.ts';
import { serviceDefinition } from '#proto/load.ts';

export type EtcdConnection = {
  /** `http://host:port` or `https://host:port`, as in --etcd-servers. */
  endpoints: readonly string[];
  /** PEM files, as in --etcd-cafile, --etcd-certfile, --etcd-keyfile. */
  caFile?: string;
  certFile?: string;
  keyFile?: string;
};

/** etcd's messages as protobufjs gives them: camelCase, numbers for 64-bit integers. */
export type KeyValue = {
  key: Uint8Array;
  value: Uint8Array;
  createRevision: number;
  modRevision: number;
};
export type Header = { revision: number };
export type RangeRequest = {
  key: Uint8Array;
  rangeEnd?: Uint8Array;
  limit?: number;
  revision?: number;
  countOnly?: boolean;
};
export type RangeResponse = { header: Header; kvs: KeyValue[]; count: number };
export type RequestOp =
  | { requestRange: RangeRequest }
  | { requestPut: { key: Uint8Array; value: Uint8Array; lease?: number } }
  | { requestDeleteRange: { key: Uint8Array } };
export type Compare = { target: 'MOD'; key: Uint8Array; modRevision: number };
export type TxnRequest = { compare: Compare[]; success: RequestOp[]; failure: RequestOp[] };
export type TxnResponse = {
  header: Header;
  succeeded: boolean;
  responses: { responseRange: RangeResponse | null }[];
};
export type EtcdEvent = { type: 'PUT' | 'DELETE'; kv: KeyValue; prevKv: KeyValue | null };
export type WatchRequest = {
  createRequest: { key: Uint8Array; rangeEnd: Uint8Array; startRevision: number; prevKv: boolean };
};
export type WatchResponse = {
  header: Header;
  created: boolean;
  canceled: boolean;
  compactRevision: number;
  cancelReason: string;
  events: EtcdEvent[];
};
export type WatchStream = ClientDuplexStream<WatchRequest, WatchResponse>;

/** The few calls of etcd's v3 API that the store needs, over one HTTP/2 connection. */
export type EtcdClient = {
  range(request: RangeRequest): Promise<RangeResponse>;
  txn(request: TxnRequest): Promise<TxnResponse>;
  compact(request: { revision: number }): Promise<object>;
  leaseGrant(request: { TTL: number; ID: number }): Promise<object>;
  watch(request: WatchRequest): WatchStream;
  close(): void;
};

/** A call without an answer by then has failed; longer than an election. */
const CALL_TIMEOUT_MS = 5_000;
/** A connection that swallows everything is noticed after this and the timeout. */
const KEEPALIVE_MS = 15_000;
const KEEPALIVE_TIMEOUT_MS = 5_000;

const OPTIONS = {
  // A page of large objects goes over gRPC's default of 4 MB.
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  'grpc.keepalive_time_ms': KEEPALIVE_MS,
  'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2_000,
};

/**
 * Connects lazily. With several endpoints one is used until it fails; then the next one is.
 * Calls reject with EtcdError. Throws StoreUnavailableError when a file cannot be read.
 */
export function createEtcdClient(connection: EtcdConnection): EtcdClient {
  const clients = connection.endpoints.map((endpoint) => connect(endpoint, connection));
  let current = 0;
  const client = (): Client => {
    const found = clients[current % clients.length];
    if (!found) throw new StoreUnavailableError('--etcd-servers names no server');
    return found;
  };
  const callOnce = <A extends object>(method: Method, request: object): Promise<A> =>
    new Promise((resolve, reject) => {
      const used = current;
      client().makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize as (bytes: Buffer) => A,
        request,
        new Metadata(),
        { deadline: Date.now() + CALL_TIMEOUT_MS },
        (error, answer) => {
          if (!error && answer) return resolve(answer);
          if (error && isAway(error) && used === current) current++;
          reject(error ?? new Error('etcd has answered nothing'));
        },
      );
    });
  /** Every server gets its chance, as long as it is certain that no other has done the work. */
  const call = async <A extends object>(method: Method, request: object): Promise<A> => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await callOnce<A>(method, request);
      } catch (error) {
        const again = attempt < clients.length && wasNotDone(method, error);
        if (!again) throw toEtcdError(error, connection.endpoints);
      }
    }
  };
  const methods = methodsOf();
  return {
    range: (request) => call(methods.range, request),
    txn: (request) => call(methods.txn, request),
    compact: (request) => call(methods.compact, request),
    leaseGrant: (request) => call(methods.leaseGrant, request),
    watch(request) {
      const { path, requestSerialize, responseDeserialize } = methods.watch;
      const deserialize = responseDeserialize as (bytes: Buffer) => WatchResponse;
      const stream = client().makeBidiStreamRequest(path, requestSerialize, deserialize);
      const used = current;
      stream.on('error', (error: ServiceError) => {
        if (isAway(error) && used === current) current++;
      });
      stream.write(request);
      return stream;
    },
    close: () => {
      for (const each of clients) each.close();
    },
  };
}

function connect(endpoint: string, connection: EtcdConnection): Client {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') {
    throw new StoreUnavailableError(
      `etcd server "${endpoint}" is no address: expected http://host:port or https://host:port`,
    );
  }
  const address = `${url.hostname}:${url.port || '2379'}`;
  if (url.protocol === 'http:') return new Client(address, credentials.createInsecure(), OPTIONS);
  // TLS knows no addresses as server names, and Node refuses grpc-js's attempt: such a server
  // gets a stand-in for a name, and its certificate is checked for the address.
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const names = isIP(host) === 0 ? {} : { 'grpc.ssl_target_name_override': 'etcd.invalid' };
  return new Client(address, tls(connection, host), { ...OPTIONS, ...names });
}

function tls({ caFile, certFile, keyFile }: EtcdConnection, host: string): ChannelCredentials {
  const read = (file: string | undefined): Buffer | null => {
    if (file === undefined) return null;
    try {
      return readFileSync(file);
    } catch (cause) {
      throw new StoreUnavailableError(`etcd's TLS file ${file} cannot be read`, { cause });
    }
  };
  return credentials.createSsl(read(caFile), read(keyFile), read(certFile), {
    checkServerIdentity: (_name, certificate) => checkServerIdentity(host, certificate),
  });
}

type Method = MethodDefinition<object, object>;
type MethodName = 'range' | 'txn' | 'compact' | 'leaseGrant' | 'watch';

function methodsOf(): Record<MethodName, Method> {
  const find = (service: string, name: string): Method => {
    const method = serviceDefinition('etcd.proto', service)[name];
    if (!method) throw new Error(`etcd.proto has no ${service}.${name}`);
    return method;
  };
  return {
    range: find('KV', 'Range'),
    txn: find('KV', 'Txn'),
    compact: find('KV', 'Compact'),
    leaseGrant: find('Lease', 'LeaseGrant'),
    watch: find('Watch', 'Watch'),
  };
}

/** Why etcd refused, as far as the store treats it differently. */
export type EtcdRefusal = 'compacted' | 'future' | 'other';

/** A failed call. Whatever the store does not turn into a better error reaches callers as this. */
export class EtcdError extends StoreUnavailableError {
  readonly refusal: EtcdRefusal;
  constructor(message: string, refusal: EtcdRefusal, options?: { cause?: unknown }) {
    super(message, options);
    this.refusal = refusal;
  }
}

/** Wraps what grpc-js reports, in words that name the servers and the way out. */
export function toEtcdError(error: unknown, endpoints: readonly string[]): EtcdError {
  const servers = endpoints.join(',');
  const details = isServiceError(error) ? error.details : errorText(error);
  const refusal = refusalOf(details);
  if (isServiceError(error) && isAway(error)) {
    const text = `etcd at ${servers} does not answer (${details}): check --etcd-servers and etcd`;
    return new EtcdError(text, refusal, { cause: error });
  }
  const text = details.includes('database space exceeded')
    ? `etcd at ${servers} is full: free space with "etcdctl defrag" and "etcdctl alarm disarm"`
    : `etcd at ${servers}: ${details}`;
  return new EtcdError(text, refusal, { cause: error });
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'details' in error && 'code' in error;
}

function refusalOf(details: string): EtcdRefusal {
  if (details.includes('revision has been compacted')) return 'compacted';
  return details.includes('is a future revision') ? 'future' : 'other';
}

/** Reads may be asked twice; a write only when it has not left this process. */
function wasNotDone(method: Method, error: unknown): boolean {
  if (!isServiceError(error) || !isAway(error)) return false;
  return method.path.endsWith('/Range') || error.details.startsWith('No connection established');
}

function isAway(error: ServiceError): boolean {
  return error.code === status.UNAVAILABLE || error.code === status.DEADLINE_EXCEEDED;
}
