import { cpus, freemem } from 'node:os';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import type { TemplateSize } from './templates.ts';

const LOOK_MS = 1_000;
/** Pods come in groups; what fills the pool must not compete with their starts. */
const CALM_MS = 3_000;
const IDLE_SHARE = 0.5;
/** A VM may grow to its size while it waits for nobody. */
const FREE_MEMORY_FACTOR = 4;
const AFTER_FAILURE_MS = 60_000;

/** A VM without a pod, which the runtime has let go of. */
export type WaitingVm = { dir: string; pid: number };

/** What the machine has left, at the time of asking. */
export type Headroom = { idleShare: number; freeMib: number };

export type PoolOptions = {
  /** How many wait at most; 0 for none. */
  limit: number;
  make: (size: TemplateSize, options: { signal: AbortSignal }) => Promise<WaitingVm>;
  discard: (vm: WaitingVm) => Promise<void>;
  headroom: () => Headroom;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
};

/** VMs that have been restored and used once: what they run is translated and their caches filled. */
export type Pool = {
  /** One of this size, if one waits. Those of the size that was last asked for are made again. */
  take(size: TemplateSize): WaitingVm | undefined;
  /** Ends those that wait; after `signal` has aborted. */
  close(): Promise<void>;
};

const keyOf = ({ memoryMib, vcpus }: TemplateSize): string => `${memoryMib}-${vcpus}`;

export function openPool(options: PoolOptions): Pool {
  const { limit, make, discard, headroom, clock, log, signal } = options;
  let waiting: { key: string; vm: WaitingVm }[] = [];
  let wanted: TemplateSize | undefined;
  let notBefore = 0;

  async function dropOthers(key: string): Promise<void> {
    const others = waiting.filter((one) => one.key !== key);
    waiting = waiting.filter((one) => one.key === key);
    for (const { vm } of others) await discard(vm);
  }

  async function fill(): Promise<void> {
    while (!signal.aborted) {
      await clock.sleep(LOOK_MS, { signal }).catch(() => {});
      const { idleShare, freeMib } = headroom();
      if (signal.aborted || !wanted || clock.now() < notBefore) continue;
      const key = keyOf(wanted);
      if (waiting.filter((one) => one.key === key).length >= limit) continue;
      if (idleShare < IDLE_SHARE || freeMib < wanted.memoryMib * FREE_MEMORY_FACTOR) continue;
      try {
        await dropOthers(key);
        const vm = await make(wanted, { signal });
        waiting = [...waiting, { key, vm }];
        log.debug('a microVM waits for a pod', { size: key });
      } catch (error) {
        if (signal.aborted) return;
        log.warn('no microVM can be made in advance', { error: errorText(error) });
        notBefore = clock.now() + AFTER_FAILURE_MS;
      }
    }
  }

  const filling = limit > 0 ? fill() : Promise.resolve();
  return {
    take(size) {
      wanted = size;
      notBefore = Math.max(notBefore, clock.now() + CALM_MS);
      const key = keyOf(size);
      const found = waiting.find((one) => one.key === key);
      waiting = waiting.filter((one) => one !== found);
      return found?.vm;
    },
    async close() {
      await filling;
      await dropOthers('');
    },
  };
}

/** What the machine had left since the last call. */
export function hostHeadroom(): () => Headroom {
  let before = processorTimes();
  return () => {
    const now = processorTimes();
    const all = now.all - before.all;
    const idleShare = all > 0 ? (now.idle - before.idle) / all : 0;
    before = now;
    return { idleShare, freeMib: freemem() / 1024 / 1024 };
  };
}

function processorTimes(): { idle: number; all: number } {
  const times = cpus().map((cpu) => cpu.times);
  const idle = times.reduce((sum, one) => sum + one.idle, 0);
  const busy = times.reduce((sum, { user, nice, sys, irq }) => sum + user + nice + sys + irq, 0);
  return { idle, all: idle + busy };
}
