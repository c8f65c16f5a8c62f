import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { errorText } from '#base/log.ts';
import { latest, podContainers } from '#node-agent/pods/pod-observation.ts';
import { RequestError, type StreamServices } from '#node-agent/server/server-streams.ts';

/** Longest that a checkpoint may take by the caller's own word, so that a mistake ends. */
const MAX_TIMEOUT_SECONDS = 3_600;

/**
 * `POST /checkpoint/NAMESPACE/POD/CONTAINER[?timeout=SECONDS]`: has the runtime write the running
 * container into an archive below the node's folder, and answers with where it is. Runtimes that
 * make none (containerd before 2.0) answer so themselves.
 * Source: Kubernetes "Kubelet Checkpoint API".
 */
export async function checkpoint(
  around: StreamServices,
  url: URL,
  rootDir: string,
): Promise<{ items: string[] }> {
  const parts = url.pathname.split('/').filter(Boolean).map(decodeURIComponent);
  const [, namespace = '', podName = '', name = ''] = parts;
  if (parts.length !== 4) throw new RequestError(404, '404: Page Not Found');
  const { services, workers } = around;
  const pod = workers.find(namespace, podName)?.pod;
  if (!pod) throw new RequestError(404, 'pod does not exist');
  if (!podContainers(pod).some((container) => container.spec.name === name))
    throw new RequestError(404, `container ${name} does not exist`);
  const timeoutSeconds = timeoutOf(url.searchParams.getAll('timeout').at(-1));
  try {
    const record = latest(services.runtimes.get(pod.metadata.uid ?? ''), name);
    if (record?.state !== 'running') throw new Error(`container ${name} not found`);
    const dir = join(rootDir, 'checkpoints');
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const time = new Date(services.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    const location = join(dir, `checkpoint-${podName}_${namespace}-${name}-${time}.tar`);
    await services.runtime.checkpointContainer(record.id, location, timeoutSeconds);
    return { items: [location] };
  } catch (error) {
    const what = `checkpointing of ${namespace}/${podName}/${name} failed`;
    throw new RequestError(500, `${what} (${errorText(error)})`);
  }
}

/** Seconds; 0 leaves it to the runtime. */
function timeoutOf(text: string | undefined): number {
  if (text === undefined) return 0;
  if (!/^\d+$/.test(text)) throw new RequestError(404, 'cannot parse value of timeout parameter');
  return Math.min(Number(text), MAX_TIMEOUT_SECONDS);
}
