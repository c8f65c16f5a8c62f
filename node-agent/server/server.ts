import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import * as https from 'node:https';
import { availableParallelism } from 'node:os';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { errorText, type Log } from '#base/log.ts';
import { agentMetrics, probeMetrics } from '#node-agent/server/agent-metrics.ts';
import { cadvisorMetrics, type MeasuredPod } from '#node-agent/server/cadvisor-metrics.ts';
import { PEER_PATH } from '#node-agent/images-local/peers.ts';
import type { RegistryHandler } from '#node-agent/images-local/registry.ts';
import { readLog, type LogOptions } from '#node-agent/server/logs.ts';
import { checkpoint } from '#node-agent/server/checkpoint.ts';
import {
  acceptOf,
  type Component,
  flagzPage,
  type Page,
  statuszPage,
} from '#node-agent/server/component-pages.ts';
import { serveSystemLogs } from '#node-agent/server/system-logs.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import { meminfo } from '#node-agent/node/node-facts.ts';
import { detailStats, type PodDetails } from '#node-agent/pods/pod-details.ts';
import { latest } from '#node-agent/pods/pod-observation.ts';
import { qosClass } from '#node-agent/containers/qos.ts';
import type { PodWorkers } from '#node-agent/pods/pod-workers.ts';
import {
  credentialsOf,
  isNode,
  type ServerAccess,
  wishOf,
} from '#node-agent/server/server-access.ts';
import {
  findContainer,
  isStream,
  passStream,
  refuseUpgrade,
  RequestError,
} from '#node-agent/server/server-streams.ts';
import {
  type PodUsage,
  resourceMetrics,
  statsSummary,
  UsageMeter,
} from '#node-agent/node/usage.ts';

/** What `/statusz` names of what is served. */
const PATHS = ['/configz', '/flagz', '/healthz', '/metrics'];

/** Serving certificates are renewed in place; looked at this often. */
const CERTIFICATE_MS = 60_000;

export type ServerConfig = {
  rootDir: string;
  nodeName: string;
  port?: number;
  bindAddress?: string;
  tlsCertFile?: string;
  tlsPrivateKeyFile?: string;
  clientCaFile?: string;
};

export type ServerOptions = {
  config: ServerConfig;
  services: NodeServices;
  workers: PodWorkers;
  access: ServerAccess;
  details: PodDetails;
  component: Omit<Component, 'paths'>;
  /** Gives images and layers of this node to other nodes. */
  serveImages?: RegistryHandler;
  signal: AbortSignal;
  log: Log;
};

export const DEFAULT_PORT = 10_250;

/** `reload` reads the certificate files again at once; connections that stand are not touched. */
export type AgentServer = { port: () => number; done: Promise<void>; reload: () => void };

/**
 * The node's own API, under the kubelet's paths, for the API server. Without a certificate to serve
 * with, nothing is served. Rejects when the port is taken.
 */
export async function startServer(options: ServerOptions): Promise<AgentServer> {
  const { config, signal, log } = options;
  const { tlsCertFile, tlsPrivateKeyFile, clientCaFile, port = DEFAULT_PORT } = config;
  if (!tlsCertFile || !tlsPrivateKeyFile || !clientCaFile) {
    log.warn('no certificate to serve with: logs, exec and metrics of this node are not served');
    return { port: () => port, done: Promise.resolve(), reload: () => {} };
  }
  const files = () => ({
    cert: readFileSync(tlsCertFile),
    key: readFileSync(tlsPrivateKeyFile),
    ca: readFileSync(clientCaFile),
  });
  const { runtime, runtimes, clock } = options.services;
  const meter = new UsageMeter(
    runtime,
    clock,
    (id) => runtimes.container(id)?.record.startedAtMs || undefined,
  );
  meter.node(); // the first rate needs an earlier value
  const server = https.createServer(
    { ...files(), requestCert: true, rejectUnauthorized: false },
    (request, response) => void serve(options, meter, request, response),
  );
  const sockets = new Set<{ destroy(): void }>();
  server.on('secureConnection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
  });
  server.on('upgrade', (request: IncomingMessage, socket, head) => {
    void upgrade(options, request, socket, head);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EADDRINUSE'
          ? new Error(
              `port ${port} of the node agent is taken by another process; choose another one`,
              { cause: error },
            )
          : error,
      ),
    );
    server.listen(port, config.bindAddress ?? '0.0.0.0', resolve);
  });
  const reload = (): void => {
    try {
      server.setSecureContext(files());
    } catch (error) {
      log.warn('could not read the serving certificate', { error: errorText(error) });
    }
  };
  const renewal = setInterval(reload, CERTIFICATE_MS);
  const actualPort = (server.address() as AddressInfo).port;
  const done = new Promise<void>((resolve) => {
    const stop = (): void => {
      clearInterval(renewal);
      server.close(() => resolve());
      for (const socket of sockets) socket.destroy();
    };
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
  return { port: () => actualPort, done, reload };
}

async function upgrade(
  options: ServerOptions,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  socket.on('error', () => socket.destroy()); // clients usually leave with a reset
  try {
    const { pathname } = new URL(request.url ?? '/', 'https://agent');
    await options.access.check(credentialsOf(request), wishOf(request.method ?? '', pathname));
    if (!isStream(pathname)) throw new RequestError(404, 'no such stream');
    await passStream(options, request, socket, head);
  } catch (error) {
    const status = error instanceof RequestError ? error.status : 500;
    refuseUpgrade(socket, status, errorText(error));
  }
}

async function serve(
  options: ServerOptions,
  meter: UsageMeter,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    const url = new URL(request.url ?? '/', 'https://agent');
    const credentials = credentialsOf(request);
    if (options.serveImages && url.pathname.startsWith(`${PEER_PATH}/v2/`) && isNode(credentials)) {
      request.url = request.url?.slice(PEER_PATH.length) ?? '';
      return await options.serveImages(request, response);
    }
    const wish = wishOf(request.method ?? '', url.pathname);
    await options.access.check(credentials, wish);
    if (isStream(url.pathname)) throw new RequestError(400, 'you must specify an upgrade');
    if (/^\/healthz(\/(ping|log|syncloop))?$/.test(url.pathname)) return text(response, 'ok');
    await route(options, meter, request, response);
  } catch (error) {
    if (response.headersSent) {
      response.destroy();
      return;
    }
    const status = error instanceof RequestError ? error.status : 500;
    if (status === 500)
      options.log.warn('request failed', { path: request.url, error: errorText(error) });
    text(response, `${errorText(error)}\n`, status);
  }
}

async function route(
  options: ServerOptions,
  meter: UsageMeter,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? '/', 'https://agent');
  const { config, services, workers } = options;
  const path = url.pathname.replace(/\/$/, '');
  if (path.startsWith('/containerLogs/')) return containerLogs(options, url, response);
  if (/^\/logs(\/|$)/.test(path)) return serveSystemLogs(url.pathname, response);
  if (path.startsWith('/checkpoint/')) {
    if (request.method !== 'POST') throw new RequestError(405, '405: Method Not Allowed');
    return json(response, await checkpoint(options, url, config.rootDir));
  }
  switch (path) {
    case '/statusz': {
      const component = { ...options.component, paths: PATHS };
      return page(response, statuszPage(component, acceptOf(request), services.clock.now()));
    }
    case '/flagz':
      return page(response, flagzPage(options.component, acceptOf(request)));
    case '/stats/summary': {
      const pods = await meter.pods();
      const { nodeName, rootDir } = config;
      const details = detailsOf(options, new Date(services.clock.now()).toISOString());
      return json(response, statsSummary(nodeName, rootDir, meter.node(), pods, details));
    }
    case '/metrics/resource':
      return text(response, resourceMetrics(meter.node(), await meter.pods()));
    case '/metrics/cadvisor':
      return text(response, cadvisorMetrics(readMachine(), measured(options, await meter.pods())));
    case '/metrics':
      return text(response, agentMetrics(options));
    case '/metrics/probes':
      return text(response, probeMetrics(services.probes.counts()));
    case '/pods':
      return json(response, podList(workers.all().map((worker) => worker.pod)));
    case '/runningpods':
      return json(response, podList(runningPods(services)));
    case '/configz':
      return json(response, {
        kubeletconfig: {
          kind: 'KubeletConfiguration',
          apiVersion: 'kubelet.config.k8s.io/v1beta1',
          clusterDomain: services.clusterDomain,
          clusterDNS: services.dns().clusterDns,
          cgroupDriver: 'cgroupfs',
          maxPods: services.allocatable.get('pods'),
        },
      });
    default:
      throw new RequestError(404, `404 page not found: ${path}`);
  }
}

const podList = (items: readonly object[]): object => ({
  kind: 'PodList',
  apiVersion: 'v1',
  metadata: {},
  items,
});

/** What the runtime runs, also of pods that nobody knows any more. */
const runningPods = ({ runtimes }: NodeServices): object[] =>
  runtimes
    .pods()
    .filter(({ state }) => state.sandboxes.some(({ ready }) => ready))
    .map(({ uid, name, namespace, state }) => ({
      metadata: { name, namespace, uid },
      spec: {
        containers: state.containers
          .filter((record) => record.state === 'running')
          .map((record) => ({ name: record.name, image: record.imageRef })),
      },
      status: {},
    }));

/** Network, volumes and logs of pods, as /stats/summary shows them. */
function detailsOf({ workers, details, services }: ServerOptions, time: string) {
  return (uid: string, fs: object) => {
    const pod = workers.get(uid)?.pod;
    const disk = details.disk(uid);
    const container = (name: string): object => {
      const usedBytes = disk?.containers.get(name)?.logBytes;
      return usedBytes === undefined ? {} : { logs: { ...fs, time, usedBytes } };
    };
    const network = pod && details.network(pod);
    const claims = services.volumes.usage.of(uid);
    return { pod: detailStats(time, network, disk, fs, claims), container };
  };
}

/** What the node runs, with what cAdvisor's series say of it. */
function measured(
  { services, workers, details }: ServerOptions,
  usages: readonly PodUsage[],
): MeasuredPod[] {
  return usages.flatMap((usage): MeasuredPod[] => {
    const { uid } = usage.podRef;
    const pod = workers.get(uid)?.pod;
    if (!pod) return [];
    return [
      {
        usage,
        cgroup: services.cgroups?.podPath(uid, qosClass(pod)) ?? '',
        container: (name) => latest(services.runtimes.get(uid), name),
        network: details.network(pod),
      },
    ];
  });
}

const readMachine = () => ({
  cores: availableParallelism(),
  memoryBytes: meminfo().totalBytes,
});

/** `/containerLogs/NAMESPACE/POD/CONTAINER?…`: parameters as in PodLogOptions. */
async function containerLogs(
  options: ServerOptions,
  url: URL,
  response: ServerResponse,
): Promise<void> {
  const [, namespace = '', podName = '', name = ''] = url.pathname
    .split('/')
    .filter(Boolean)
    .map(decodeURIComponent);
  const { services } = options;
  const { pod, record: newest } = findContainer(options, namespace, podName, name);
  const uid = pod.metadata.uid ?? '';
  const previous = isTrue(url.searchParams.get('previous'));
  const record = previous
    ? services.runtimes.get(uid).containers.filter((c) => c.name === name)[1]
    : newest;
  if (!record || record.state === 'created') {
    throw new RequestError(
      400,
      previous
        ? `previous terminated container "${name}" in pod "${podName}" not found`
        : `container "${name}" in pod "${podName}" is waiting to start: ${waitingReason(options, uid, name)}`,
    );
  }
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' });
  response.flushHeaders();
  await readLog({
    path: record.logPath,
    options: logOptions(url.searchParams, services.clock.now()),
    isRunning: () => services.runtimes.container(record.id)?.record.state === 'running',
    signal: AbortSignal.any([gone.signal, options.signal]),
    write: (chunk) =>
      new Promise<void>((resolve) => {
        if (response.write(chunk) || response.destroyed) return resolve();
        const go = (): void => {
          response.off('drain', go);
          response.off('close', go);
          resolve();
        };
        response.once('drain', go);
        response.once('close', go);
      }),
  });
  response.end();
}

function waitingReason({ services, workers }: ServerOptions, uid: string, name: string): string {
  const worker = workers.get(uid);
  const status = worker && services.status.reported(worker.pod);
  const all = [...(status?.containerStatuses ?? []), ...(status?.initContainerStatuses ?? [])];
  const reason = all.find((c) => c.name === name)?.state?.waiting?.reason ?? 'ContainerCreating';
  const words: Record<string, string> = {
    ErrImagePull: "image can't be pulled",
    ImagePullBackOff: 'trying and failing to pull image',
  };
  return words[reason] ?? reason;
}

const isTrue = (value: string | null): boolean => value === 'true' || value === '1';

function logOptions(query: URLSearchParams, nowMs: number): LogOptions {
  const number = (name: string): number | undefined => {
    const value = query.get(name);
    return value === null || value === '' ? undefined : Number(value);
  };
  const [tailLines, limitBytes, seconds] = [
    number('tailLines'),
    number('limitBytes'),
    number('sinceSeconds'),
  ];
  const sinceTime = query.get('sinceTime');
  const sinceMs = sinceTime
    ? Date.parse(sinceTime)
    : seconds === undefined
      ? undefined
      : nowMs - seconds * 1000;
  const stream = query.get('stream');
  return {
    follow: isTrue(query.get('follow')),
    timestamps: isTrue(query.get('timestamps')),
    ...(sinceMs === undefined ? {} : { sinceMs }),
    ...(tailLines === undefined ? {} : { tailLines }),
    ...(limitBytes === undefined ? {} : { limitBytes }),
    ...(stream === 'Stdout' || stream === 'Stderr' ? { stream } : {}),
  };
}

function page(response: ServerResponse, { status, contentType, body }: Page): void {
  response.writeHead(status, { 'content-type': contentType });
  response.end(body);
}

function text(response: ServerResponse, body: string, status = 200): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' });
  response.end(body);
}

function json(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
