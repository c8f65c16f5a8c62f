import type { Pod } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { pods } from '#client/resources.ts';
import { TEST_IMAGE } from '#node-agent/testing.ts';

/** How long pods take to run and to go on a node, as a watcher of the API sees it. Milliseconds. */
export type PodTimes = { up: number[]; down: number[]; manyUp: number[] };

export type PodTimesOptions = {
  api: Api;
  nodeName: string;
  /** Pods one after another. */
  rounds: number;
  atOnce: number;
  /** Before each of `rounds`; its time is not counted. */
  eachRound?: (round: number) => Promise<void>;
};

/** What each pod runs: it ignores SIGTERM. */
export const STUBBORN = 'trap "" TERM; while :; do sleep 0.2; done';

type Seen = Pod | 'gone';

/** Follows all pods and tells who waits for one of them. */
function followPods(api: Api, signal: AbortSignal) {
  const waiting = new Map<string, (seen: Seen) => void>();
  const following = (async () => {
    for await (const batch of api.watch(pods, { namespace: 'default', signal })) {
      for (const event of batch) {
        if (event.type === 'BOOKMARK') continue;
        const tell = waiting.get(event.object.metadata.name ?? '');
        tell?.(event.type === 'DELETED' ? 'gone' : event.object);
      }
    }
  })().catch(() => undefined); // ends with the signal
  const until = (name: string, ok: (seen: Seen) => boolean): Promise<void> =>
    new Promise((resolve) =>
      waiting.set(name, (seen) => {
        if (ok(seen)) resolve();
      }),
    );
  return { until, following };
}

const running = (seen: Seen): boolean => seen !== 'gone' && seen.status?.phase === 'Running';
const gone = (seen: Seen): boolean => seen === 'gone';

const pod = (name: string, nodeName: string): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default' },
  spec: {
    nodeName,
    automountServiceAccountToken: false,
    terminationGracePeriodSeconds: 1,
    containers: [{ name: 'main', image: TEST_IMAGE, command: ['sh', '-c', STUBBORN] }],
  },
});

/** Measures a node that is Ready and has the image; the pods made at once are gone in the end. */
export async function measurePodTimes(options: PodTimesOptions): Promise<PodTimes> {
  const { api, nodeName, rounds, atOnce, eachRound } = options;
  const stop = new AbortController();
  const { until, following } = followPods(api, stop.signal);
  const timed = async (seen: Promise<void>, act: () => Promise<unknown>): Promise<number> => {
    const begun = performance.now();
    await act();
    await seen;
    return performance.now() - begun;
  };
  const create = (name: string): Promise<number> =>
    timed(until(name, running), () => api.create(pods, pod(name, nodeName)));
  const remove = (name: string): Promise<number> =>
    timed(until(name, gone), () => api.delete(pods, { namespace: 'default', name }));
  const times: PodTimes = { up: [], down: [], manyUp: [] };
  for (let round = 0; round < rounds; round++) {
    await eachRound?.(round);
    times.up.push(await create(`${nodeName}-one-${round}`));
    times.down.push(await remove(`${nodeName}-one-${round}`));
  }
  const many = Array.from({ length: atOnce }, (_, i) => `${nodeName}-many-${i}`);
  times.manyUp = await Promise.all(many.map(create));
  await Promise.all(many.map(remove));
  stop.abort();
  await following;
  return times;
}
