import { join } from 'node:path';
import type { RuntimeClient } from '#node-agent/runtime/containerd.ts';
import type { PodSandboxConfig } from '#node-agent/runtime/service.ts';

export type BarePod = {
  name: string;
  image: string;
  command: string[];
  logDir: string;
  /** It stays; otherwise what was made is removed again, outside the measured time. */
  keep?: boolean;
};

/**
 * The floor of a pod's start: sandbox, create and start straight to the runtime, milliseconds. The
 * image must be there.
 */
export async function startBarePod(
  runtime: RuntimeClient,
  { name, image, command, logDir, keep = false }: BarePod,
): Promise<number> {
  const namespaceOptions = { pid: 'CONTAINER' } as const;
  const sandbox: PodSandboxConfig = {
    metadata: { name, namespace: 'bare', uid: name, attempt: 0 },
    hostname: name,
    logDirectory: join(logDir, name),
    portMappings: [],
    labels: {},
    annotations: {},
    linux: { securityContext: { namespaceOptions } },
  };
  const begun = performance.now();
  const id = await runtime.runPodSandbox(sandbox, '');
  const container = await runtime.createContainer(
    id,
    {
      metadata: { name: 'main', attempt: 0 },
      image: { image },
      command,
      args: [],
      workingDir: '',
      envs: [],
      mounts: [],
      devices: [],
      labels: {},
      annotations: {},
      logPath: 'main.log',
      stdin: false,
      stdinOnce: false,
      tty: false,
      linux: { resources: {}, securityContext: { namespaceOptions } },
    },
    sandbox,
  );
  await runtime.startContainer(container);
  const ms = performance.now() - begun;
  if (keep) return ms;
  await runtime.stopPodSandbox(id);
  await runtime.removePodSandbox(id);
  return ms;
}
