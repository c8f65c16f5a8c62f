/** What arrives for a reader, bounded by its size: `push` waits while the reader is behind. */
export type Inbox<T> = AsyncIterable<T> & {
  push(item: T, size: number): Promise<void>;
  /** Takes it only if there is room. */
  offer(item: T, size: number): boolean;
  /** Nothing more comes; what is there is still read. */
  end(): void;
};

export function createInbox<T>(capacity: number): Inbox<T> {
  const queue: { item: T; size: number }[] = [];
  let held = 0;
  let ended = false;
  let wakeReader = (): void => {};
  let wakeWriters: (() => void)[] = [];
  const add = (item: T, size: number): void => {
    queue.push({ item, size });
    held += size;
    wakeReader();
  };
  const makeRoom = (): void => {
    for (const wake of wakeWriters) wake();
    wakeWriters = [];
  };
  return {
    async push(item, size) {
      while (held >= capacity && !ended)
        await new Promise<void>((resolve) => wakeWriters.push(resolve));
      if (!ended) add(item, size);
    },
    offer(item, size) {
      if (ended || held >= capacity) return false;
      add(item, size);
      return true;
    },
    end() {
      ended = true;
      wakeReader();
      makeRoom();
    },
    async *[Symbol.asyncIterator]() {
      try {
        for (;;) {
          const next = queue.shift();
          if (next) {
            held -= next.size;
            makeRoom();
            yield next.item;
          } else if (ended) return;
          else await new Promise<void>((resolve) => (wakeReader = resolve));
        }
      } finally {
        // Nobody reads any more: writers must not wait for ever.
        ended = true;
        queue.length = 0;
        held = 0;
        makeRoom();
      }
    },
  };
}
