import type { Pod } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { pods } from '#client/resources.ts';

/** Milliseconds from the POST until a watch shows the pod Running. */
export async function podTime(api: Api, pod: Pod): Promise<number> {
  const { name, namespace = 'default' } = pod.metadata;
  const begun = performance.now();
  const created = await api.create(pods, pod);
  for await (const batch of api.watch(pods, {
    namespace,
    fieldSelector: `metadata.name=${name}`,
    resourceVersion: created.metadata.resourceVersion ?? '',
  })) {
    for (const event of batch) {
      if (event.type === 'BOOKMARK') continue;
      if (event.object.status?.phase === 'Running') return performance.now() - begun;
    }
  }
  throw new Error(`pod ${name} did not come to run`);
}
