import https from 'node:https';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { KubeObject, EndpointSlice, Pod, Service } from '#api/types.ts';
import { badRequestError, failure, notFoundError } from '#api/status.ts';
import { http } from '#base/http.ts';
import { errorText } from '#base/log.ts';
import type { ServerResponse } from '#apiserver/request.ts';
import type {
  HandlerContext,
  HandlerRequest,
  SubresourceHandler,
  UpgradedConnection,
} from '#apiserver/subresources/handler.ts';
import {
  DIAL_TIMEOUT_MS,
  framed,
  handOver,
  HOP_HEADERS,
  nodeAddress,
  passToNode,
  requestNode,
} from '#apiserver/subresources/node-connection.ts';
import { detouredAnswer } from '#apiserver/subresources/proxy-pages.ts';

/**
 * `nodes/NAME/proxy`, `pods/NAME/proxy` and `services/NAME/proxy`: HTTP through the API server to
 * a node's agent, a pod or a service. NAME may be `[https:]NAME[:PORT]`.
 * Source: Kubernetes "Access Services Running on Clusters", manually constructing proxy URLs.
 */
type Target = { protocol: 'http' | 'https'; host: string; port: number };

const HEADERS_NOT_PASSED = new Set([...HOP_HEADERS, 'authorization', 'host', 'content-length']);

/** The handler of `RESOURCE/NAME/proxy`, which admission is asked about before anything is sent. */
function proxyOf(
  resource: string,
  options: string,
  { handle, connect }: Required<Pick<SubresourceHandler, 'handle' | 'connect'>>,
): SubresourceHandler {
  const admit = async (context: HandlerContext, request: HandlerRequest): Promise<void> => {
    const { kind, info, as } = request;
    const path = tailOf(info).replace(/^\//, '');
    // The options are all that there is to admit; they have no metadata.
    const object = { apiVersion: 'v1', kind: options, ...(path ? { path } : {}) };
    await context.admit({
      operation: 'CONNECT',
      kind,
      subresource: 'proxy',
      namespace: info.namespace,
      name: info.name,
      object: object as unknown as KubeObject,
      as,
    });
  };
  return {
    group: '',
    resource,
    subresource: 'proxy',
    async handle(context, request) {
      await admit(context, request);
      return handle(context, request);
    },
    async connect(context, request, connection) {
      await admit(context, request);
      await connect(context, request, connection);
    },
  };
}

export const nodeProxy = proxyOf('nodes', 'NodeProxyOptions', {
  async handle(context, request) {
    const { name, port } = splitName(request.info.name, 'node');
    const address = nodeAddress(context, name);
    return requestNode(context, port ? { ...address, port: Number(port) } : address, {
      method: request.request.method,
      path: pathOf(request),
      headers: headersOf(request),
      body: request.request.body,
      signal: request.request.signal,
    });
  },
  async connect(context, request, connection) {
    const { name } = splitName(request.info.name, 'node');
    await passToNode(context, nodeAddress(context, name), pathOf(request), connection);
  },
});

export const podProxy = proxyOf('pods', 'PodProxyOptions', {
  handle: (context, request) => forward(request, targetOfPod(context, request)),
  connect: (context, request, connection) =>
    pass(request, targetOfPod(context, request), connection),
});

export const serviceProxy = proxyOf('services', 'ServiceProxyOptions', {
  handle: (context, request) => forward(request, targetOfService(context, request)),
  connect: (context, request, connection) =>
    pass(request, targetOfService(context, request), connection),
});

function splitName(text: string, what: string) {
  const parts = text.split(':');
  const [first = '', second = '', third = ''] = parts;
  if (parts.length === 1) return { protocol: 'http', name: first, port: '' } as const;
  if (parts.length === 2) return { protocol: 'http', name: first, port: second } as const;
  const known = first === '' || first === 'http' || first === 'https';
  if (parts.length !== 3 || !known) {
    throw badRequestError(`invalid ${what} request ${JSON.stringify(text)}`);
  }
  return { protocol: first || 'http', name: second, port: third } as const;
}

function targetOfPod(context: HandlerContext, { info }: HandlerRequest): Target {
  const { protocol, name, port } = splitName(info.name, 'pod');
  const pod = context.reader.get<Pod>('', 'pods', { namespace: info.namespace, name });
  if (!pod) throw notFoundError({ group: '', resource: 'pods' }, name);
  const host = pod.status?.podIP;
  if (!host) throw badRequestError('address not allowed');
  const ports = pod.spec.containers.flatMap((container) => container.ports ?? []);
  const named = ports.find((one) => one.name === port)?.containerPort;
  const wanted = port ? (named ?? Number(port)) : (ports[0]?.containerPort ?? 80);
  return { protocol, host, port: wanted };
}

function targetOfService(context: HandlerContext, { info }: HandlerRequest): Target {
  const { protocol, name, port } = splitName(info.name, 'service');
  const { namespace } = info;
  const service = context.reader.get<Service>('', 'services', { namespace, name });
  if (!service) throw notFoundError({ group: '', resource: 'services' }, name);
  const ports = service.spec?.ports ?? [];
  const found = port
    ? ports.find((one) => one.name === port || String(one.port) === port)
    : ports.length === 1
      ? ports[0]
      : ports.find((one) => !one.name);
  if (!found)
    throw unavailable(`no service port ${JSON.stringify(port)} found for service "${name}"`);
  const ready = readyAddresses(context, namespace, name, found.name ?? '');
  const chosen = ready[Math.floor(context.random() * ready.length)];
  if (!chosen) throw unavailable(`no endpoints available for service "${name}"`);
  return { protocol, ...chosen };
}

const unavailable = (message: string) => failure(503, 'ServiceUnavailable', message);

function readyAddresses(
  context: HandlerContext,
  namespace: string,
  service: string,
  portName: string,
): { host: string; port: number }[] {
  const slices = context.reader
    .list<EndpointSlice & KubeObject>('discovery.k8s.io', 'endpointslices', namespace)
    .filter((slice) => slice.metadata.labels?.['kubernetes.io/service-name'] === service);
  return slices.flatMap((slice) => {
    const port = slice.ports?.find((one) => (one.name ?? '') === portName)?.port;
    if (port === undefined) return [];
    return (slice.endpoints ?? [])
      .filter((endpoint) => endpoint.conditions?.ready !== false)
      .flatMap((endpoint) => endpoint.addresses.map((host) => ({ host, port })));
  });
}

/** What follows `/proxy`, with the query. */
function pathOf({ info, request }: HandlerRequest): string {
  const query = request.url.indexOf('?');
  return `${tailOf(info) || '/'}${query < 0 ? '' : request.url.slice(query)}`;
}

/** What follows `/proxy`, its last slash included. */
const tailOf = ({ rest, path }: HandlerRequest['info']): string =>
  path.endsWith('/') ? `${rest}/` : rest;

/** The client's headers but for those of its connection with us, and its credentials. */
function headersOf({ request }: HandlerRequest): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (value === undefined || name.startsWith(':') || HEADERS_NOT_PASSED.has(name)) continue;
    headers[name] = value;
  }
  return headers;
}

/** Links of the server behind the proxy lead by the proxy. */
async function forward(request: HandlerRequest, target: Target): Promise<ServerResponse> {
  const { info } = request;
  const { method, url, headers } = request.request;
  if (info.rest === '' && !info.path.endsWith('/') && (method === 'GET' || method === 'HEAD')) {
    // Relative links of a page need the slash.
    const location = `${info.path}/${url.slice(info.path.length)}`;
    return { status: 301, headers: { location }, body: '' };
  }
  const tail = tailOf(info);
  const detour = {
    host: `${target.host}:${target.port}`,
    prefix: info.path.slice(0, info.path.length - tail.length),
    origin: `https://${headers[':authority'] ?? headers['host'] ?? ''}`,
  };
  return detouredAnswer(await ask(request, target), detour);
}

function ask(request: HandlerRequest, target: Target): Promise<ServerResponse> {
  const { method, body, signal } = request.request;
  const client = target.protocol === 'https' ? https : http;
  return new Promise((resolve, reject) => {
    const outgoing = client.request({
      host: target.host,
      port: target.port,
      path: pathOf(request),
      method,
      headers: framed(headersOf(request), body),
      signal,
      // Pods have certificates of their own making, if any: the user asked for the encryption only.
      rejectUnauthorized: false,
    });
    outgoing.once('error', (error) => {
      const where = `${target.host}:${target.port}`;
      if (signal.aborted) reject(signal.reason as Error);
      else reject(unavailable(`error trying to reach service: ${where}: ${errorText(error)}`));
    });
    outgoing.once('response', (response) => {
      const headers: Record<string, string> = {};
      for (const [name, value] of Object.entries(response.headers)) {
        if (value === undefined || HOP_HEADERS.has(name)) continue;
        headers[name] = Array.isArray(value) ? value.join(', ') : value;
      }
      resolve({ status: response.statusCode ?? 502, headers, body: response });
    });
    outgoing.end(body ?? undefined);
  });
}

/** WebSockets and the like. Throws StatusError 503 while nothing has been written. */
async function pass(
  request: HandlerRequest,
  target: Target,
  connection: UpgradedConnection,
): Promise<void> {
  const backend = await dial(target);
  const host = `${target.host}:${target.port}`;
  await handOver(backend, { path: pathOf(request), host }, connection);
}

function dial({ protocol, host, port }: Target): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket =
      protocol === 'https'
        ? connectTls({ host, port, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] })
        : connect({ host, port });
    const timer = setTimeout(() => {
      socket.destroy(new Error(`no answer within ${DIAL_TIMEOUT_MS / 1000} s`));
    }, DIAL_TIMEOUT_MS);
    socket.once('error', (error) => {
      clearTimeout(timer);
      reject(unavailable(`error trying to reach service: ${host}:${port}: ${errorText(error)}`));
    });
    socket.once(protocol === 'https' ? 'secureConnect' : 'connect', () => {
      clearTimeout(timer);
      resolve(socket);
    });
  });
}
