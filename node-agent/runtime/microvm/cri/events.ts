/** Something that happened to a container or a sandbox (whose id is then both). */
export type PodEvent = {
  type: 'created' | 'started' | 'stopped' | 'deleted';
  containerId: string;
  podId: string;
  atMs: number;
};

/** A reader that does not keep up is cut off: it has to list everything then. */
const MAX_QUEUED = 1_000;

/** Tells events to everyone who listens. */
export class PodEvents {
  readonly #listeners = new Set<(event: PodEvent) => void>();

  emit(event: PodEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  /** Until the signal aborts. Throws when more are queued than the reader takes. */
  async *follow(signal: AbortSignal): AsyncGenerator<PodEvent> {
    const queue: PodEvent[] = [];
    let wake = (): void => {};
    let overflow = false;
    const listener = (event: PodEvent): void => {
      if (queue.length < MAX_QUEUED) queue.push(event);
      else overflow = true;
      wake();
    };
    const onAbort = (): void => wake();
    this.#listeners.add(listener);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      while (!signal.aborted) {
        const next = queue.shift();
        if (next) yield next;
        else if (overflow) throw new Error(`more than ${MAX_QUEUED} events were not taken`);
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      this.#listeners.delete(listener);
      signal.removeEventListener('abort', onAbort);
    }
  }
}
