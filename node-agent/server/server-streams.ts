import type { IncomingMessage } from 'node:http';
import * as net from 'node:net';
import { pipeline, type Duplex } from 'node:stream';
import { errorText } from '#base/log.ts';
import { latest, liveSandbox, podContainers } from '#node-agent/pods/pod-observation.ts';
import type { PodWorkers } from '#node-agent/pods/pod-workers.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import type { WantedStreams } from '#node-agent/runtime/microvm/cri/remote-session.ts';
import { serveCommand, serveTunnel, translationOf } from '#node-agent/server/stream-translation.ts';

/** Of the agent's connection, not of the stream behind it. */
const OWN_HEADERS = new Set(['host', 'authorization', 'origin', 'cookie']);

/** A request that cannot be served: HTTP status and what to tell. */
export class RequestError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.name = 'RequestError';
    this.status = status;
  }
}

export type StreamServices = { services: NodeServices; workers: PodWorkers };

/** The running container that `/verb/namespace/pod[/uid]/container` means. */
export function findContainer(
  { services, workers }: StreamServices,
  namespace: string,
  podName: string,
  containerName: string,
) {
  const pod = workers.find(namespace, podName)?.pod;
  if (!pod)
    throw new RequestError(404, `pod "${podName}_${namespace}" does not exist on this node`);
  if (!podContainers(pod).some((c) => c.spec.name === containerName))
    throw new RequestError(400, `container ${containerName} is not valid for pod ${podName}`);
  const record = latest(services.runtimes.get(pod.metadata.uid ?? ''), containerName);
  return { pod, record };
}

/** Gets a one-time URL for the stream that the path asks for. */
async function streamUrl(around: StreamServices, url: URL): Promise<string> {
  const [verb = '', namespace = '', pod = '', ...rest] = url.pathname
    .split('/')
    .filter(Boolean)
    .map(decodeURIComponent);
  const { services, workers } = around;
  const query = url.searchParams;
  if (verb === 'portForward') {
    const worker = workers.find(namespace, pod);
    const sandbox = worker && liveSandbox(services.runtimes.get(worker.pod.metadata.uid ?? ''));
    if (!sandbox) throw new RequestError(404, `pod "${pod}_${namespace}" is not running here`);
    const ports = (query.get('port') ?? '').split(',').filter(Boolean).map(Number);
    return services.runtime.portForward(sandbox.id, ports);
  }
  const container = rest.at(-1) ?? '';
  const { record } = findContainer(around, namespace, pod, container);
  if (record?.state !== 'running')
    throw new RequestError(400, `container "${container}" of pod ${pod} is not running`);
  const streams = { containerId: record.id, ...wantedStreams(url) };
  if (verb === 'attach') return services.runtime.attach(streams);
  return services.runtime.exec({ ...streams, command: query.getAll('command') });
}

/** Which streams the path asks for. */
function wantedStreams({ searchParams }: URL): WantedStreams {
  const flag = (name: string): boolean => ['1', 'true'].includes(searchParams.get(name) ?? '');
  return {
    stdin: flag('input'),
    stdout: flag('output'),
    stderr: flag('error'),
    tty: flag('tty'),
  };
}

export const isStream = (path: string): boolean => /^\/(exec|attach|portForward)\//.test(path);

/**
 * Serves an upgrade by handing the connection to the runtime's streaming server, byte by byte, so
 * that every protocol works that it speaks; two that older runtimes do not speak are translated.
 */
export async function passStream(
  around: StreamServices,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  try {
    const url = new URL(request.url ?? '/', 'https://agent');
    const target = new URL(await streamUrl(around, url));
    const backend = net.connect(Number(target.port), target.hostname);
    await new Promise<void>((resolve, reject) => {
      backend.once('connect', resolve);
      backend.once('error', reject);
    });
    backend.setNoDelay(true);
    if (socket instanceof net.Socket) socket.setNoDelay(true);
    const upgrade = { request, socket, head };
    const translation = translationOf(request);
    if (translation === 'tunnel') return await serveTunnel(upgrade, backend, target);
    if (translation === 'command')
      return await serveCommand(upgrade, backend, { target, wanted: wantedStreams(url) });
    backend.write(requestHead(request, target));
    if (head.length > 0) backend.write(head);
    join(socket, backend);
  } catch (error) {
    const status = error instanceof RequestError ? error.status : 500;
    refuseUpgrade(socket, status, errorText(error));
  }
}

function requestHead(request: IncomingMessage, target: URL): string {
  const lines = [
    `${request.method} ${target.pathname}${target.search} HTTP/1.1`,
    `Host: ${target.host}`,
  ];
  for (let i = 0; i + 1 < request.rawHeaders.length; i += 2) {
    const name = request.rawHeaders[i] ?? '';
    if (!OWN_HEADERS.has(name.toLowerCase())) lines.push(`${name}: ${request.rawHeaders[i + 1]}`);
  }
  return `${lines.join('\r\n')}\r\n\r\n`;
}

/** Bytes both ways; a side that breaks off takes the other with it. */
function join(client: Duplex, backend: net.Socket): void {
  const end = (error: unknown): void => {
    if (!error) return;
    client.destroy();
    backend.destroy();
  };
  pipeline(client, backend, end);
  pipeline(backend, client, (error) => {
    end(error);
    // The runtime has ended the stream: there is nothing more to send to it.
    backend.destroy();
  });
}

/** Answers an upgrade with an error, as plain HTTP. */
export function refuseUpgrade(socket: Duplex, status: number, text: string): void {
  const body = `${text}\n`;
  socket.end(
    `HTTP/1.1 ${status} ${status === 404 ? 'Not Found' : status === 500 ? 'Internal Server Error' : 'Refused'}\r\n` +
      'Content-Type: text/plain\r\nConnection: close\r\n' +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}
