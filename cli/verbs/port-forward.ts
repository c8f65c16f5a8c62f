import { createServer } from 'node:net';
import type { Verb } from '#cli/verb.ts';
import { UserError } from '#cli/verb.ts';
import { type ClientContext, type ClientFlags, clientFlags, withClient } from '#cli/context.ts';
import { pods, services } from '#client/resources.ts';
import type { Pod } from '#api/types.ts';

export const portForward: Verb = {
  name: 'port-forward',
  summary: 'reach a port of a pod or service from this machine',
  configure(command) {
    clientFlags(command)
      .argument('<target>', 'pod/NAME, service/NAME or NAME of a pod')
      .argument('<ports...>', 'LOCAL:REMOTE or PORT')
      .option('--address <ip>', 'listen here', '127.0.0.1')
      .action((target: string, ports: string[], flags: ClientFlags & { address: string }) =>
        withClient(flags, (context) => run(context, target, ports, flags.address)),
      );
  },
};

async function run(
  context: ClientContext,
  target: string,
  ports: string[],
  address: string,
): Promise<void> {
  const { PortForward, KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  config.loadFromFile(context.kubeconfig);
  const forward = new PortForward(config);
  const closed = ports.map(async (text) => {
    const { local, remote } = parsePorts(text);
    const { pod, port } = await locate(context, target, remote);
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy());
      forward
        .portForward(context.namespace, pod, [port], socket, null, socket)
        .catch((error: unknown) => {
          console.error(
            `connection to ${pod}:${port} failed: ${String((error as { message?: unknown } | null)?.message ?? error)}`,
          );
          socket.destroy();
        });
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) =>
        reject(
          new UserError(
            error.code === 'EADDRINUSE'
              ? `port ${local} on ${address} is in use; choose another, for example 0:${remote}`
              : error.message,
          ),
        ),
      );
      server.listen(local, address, resolve);
    });
    const bound = server.address();
    const shown = typeof bound === 'object' && bound ? bound.port : local;
    console.log(`Forwarding from ${address}:${shown} -> ${pod}:${port}`);
    await new Promise((resolve) => server.once('close', resolve));
  });
  await Promise.all(closed);
}

/** `8080:80` or `80`; 0 as the local port lets the system choose. */
export function parsePorts(text: string): { local: number; remote: number } {
  const parts = text.split(':').map(Number);
  const remote = parts.at(-1) ?? Number.NaN;
  const local = parts[0] ?? remote;
  const valid = parts.length <= 2 && [local, remote].every((p) => Number.isInteger(p) && p < 65536);
  if (!valid || remote <= 0 || local < 0) {
    throw new UserError(`"${text}" is no port pair; write LOCAL:REMOTE, for example 8080:80`);
  }
  return { local, remote };
}

/** The pod behind the target, and its port: a service's port leads to its target port. */
async function locate(
  { api, namespace }: ClientContext,
  target: string,
  port: number,
): Promise<{ pod: string; port: number }> {
  const [type, name] = target.includes('/') ? target.split('/') : ['pod', target];
  if (!/^(svc|services?)$/.test(type ?? '')) return { pod: name ?? '', port };
  const service = await api.get(services, { namespace, name: name ?? '' });
  const selector = Object.entries(service.spec?.selector ?? {});
  if (selector.length === 0) throw new UserError(`service ${name} selects no pods`);
  const { items } = await api.list(pods, {
    namespace,
    labelSelector: selector.map(([k, v]) => `${k}=${v}`).join(','),
  });
  const pod = items.find((p) => p.status?.phase === 'Running');
  if (!pod) throw new UserError(`service ${name} has no running pod`);
  const wanted = service.spec?.ports?.find((p) => p.port === port)?.targetPort ?? port;
  return { pod: pod.metadata.name ?? '', port: targetPort(pod, wanted) };
}

function targetPort(pod: Pod, wanted: string | number): number {
  if (typeof wanted === 'number') return wanted;
  const named = pod.spec.containers.flatMap((c) => c.ports ?? []).find((p) => p.name === wanted);
  if (!named) throw new UserError(`pod ${pod.metadata.name} has no port named "${wanted}"`);
  return named.containerPort;
}
