/** A request that waits for its turn. */
export type Waiter = {
  seats: number;
  sinceMs: number;
  /** Called once. `finished` of a request that may go on is to be told how long it took. */
  decide(go: false | { finished: (tookMs: number) => void }): void;
};

type Queue = {
  waiting: Waiter[];
  /** Work of the queue done or begun so far, in seat-milliseconds of virtual time. */
  virtual: number;
  active: boolean;
};

export type QueueShape = { queues: number; handSize: number; lengthLimit: number };

/** What a request costs at least, milliseconds; more is added when it turns out. */
const LEAST_COST_MS = 1;

/**
 * The waiting requests of one priority level. A flow may use a hand of the queues, chosen by its
 * name (shuffle sharding), so that a flow that floods fills its own hand and others keep free ones.
 * The queue that has had least work goes next (start-time fair queuing).
 * Source: KEP-1040 "Priority and Fairness for API Server Requests".
 */
export class FairQueues {
  #queues: Queue[] = [];
  #shape: QueueShape = { queues: 0, handSize: 0, lengthLimit: 0 };
  /** Those with requests in them; also queues that a change of shape took out of use. */
  #active: Queue[] = [];
  /** Virtual time: where the queue stood that was served last. */
  #virtual = 0;
  #length = 0;
  #seats = 0;

  get length(): number {
    return this.#length;
  }

  /** Seats that all waiting requests want together. */
  get seats(): number {
    return this.#seats;
  }

  reshape(shape: QueueShape): void {
    const same = shape.queues === this.#shape.queues;
    this.#shape = shape;
    if (same) return;
    this.#queues = Array.from({ length: shape.queues }, () => ({
      waiting: [],
      virtual: 0,
      active: false,
    }));
  }

  /** Puts a request at the end of the shortest queue of its flow's hand; false when that is full. */
  add(flow: string, waiter: Waiter): boolean {
    const queue = this.#choose(flow);
    if (!queue || queue.waiting.length >= this.#shape.lengthLimit) return false;
    queue.waiting.push(waiter);
    this.#length++;
    this.#seats += waiter.seats;
    if (!queue.active) {
      queue.active = true;
      // Who was idle has saved up nothing.
      queue.virtual = Math.max(queue.virtual, this.#virtual);
      this.#active.push(queue);
    }
    return true;
  }

  /** The request whose turn it is, left where it is. */
  peek(): Waiter | undefined {
    return this.#next()?.waiting[0];
  }

  /** Takes the request whose turn it is. `finished` tells its queue what it really took. */
  take(): { waiter: Waiter; finished: (tookMs: number) => void } | undefined {
    const queue = this.#next();
    const waiter = queue?.waiting.shift();
    if (!queue || !waiter) return undefined;
    this.#virtual = queue.virtual;
    queue.virtual += waiter.seats * LEAST_COST_MS;
    this.#left(queue, waiter);
    return {
      waiter,
      finished: (tookMs) => {
        queue.virtual += waiter.seats * Math.max(0, tookMs - LEAST_COST_MS);
      },
    };
  }

  /** Takes a request out whose client has gone. */
  remove(waiter: Waiter): boolean {
    for (const queue of this.#active) {
      const at = queue.waiting.indexOf(waiter);
      if (at < 0) continue;
      queue.waiting.splice(at, 1);
      this.#left(queue, waiter);
      return true;
    }
    return false;
  }

  /** Takes out those who have waited since before `sinceMs`. */
  takeOlder(sinceMs: number): Waiter[] {
    const old: Waiter[] = [];
    for (const queue of [...this.#active]) {
      for (let first = queue.waiting[0]; first && first.sinceMs < sinceMs; ) {
        queue.waiting.shift();
        this.#left(queue, first);
        old.push(first);
        first = queue.waiting[0];
      }
    }
    return old;
  }

  #left(queue: Queue, waiter: Waiter): void {
    this.#length--;
    this.#seats -= waiter.seats;
    if (queue.waiting.length > 0) return;
    queue.active = false;
    this.#active.splice(this.#active.indexOf(queue), 1);
  }

  #next(): Queue | undefined {
    let next: Queue | undefined;
    for (const queue of this.#active) if (!next || queue.virtual < next.virtual) next = queue;
    return next;
  }

  #choose(flow: string): Queue | undefined {
    let shortest: Queue | undefined;
    for (const index of dealHand(flow, this.#shape)) {
      const queue = this.#queues[index];
      if (!queue) continue;
      if (!shortest || queue.waiting.length < shortest.waiting.length) shortest = queue;
    }
    return shortest;
  }
}

/** The queues of a flow: `handSize` different numbers below `queues`, always the same ones. */
export function dealHand(flow: string, { queues, handSize }: QueueShape): number[] {
  const hand: number[] = [];
  let entropy = hashOf(flow);
  for (let dealt = 0; dealt < handSize && dealt < queues; dealt++) {
    const left = BigInt(queues - dealt);
    let card = Number(entropy % left);
    entropy /= left;
    // The n-th of those not dealt yet.
    for (const taken of [...hand].sort((a, b) => a - b)) if (card >= taken) card++;
    hand.push(card);
  }
  return hand;
}

const FNV_OFFSET = 0xcbf29ce484222325n;
const FNV_PRIME = 0x100000001b3n;
const BITS_64 = 0xffffffffffffffffn;

/** FNV-1a of 64 bits. */
function hashOf(text: string): bigint {
  let hash = FNV_OFFSET;
  for (const byte of Buffer.from(text)) hash = ((hash ^ BigInt(byte)) * FNV_PRIME) & BITS_64;
  // The last bytes have hardly reached the high bits: mix them once more.
  hash ^= hash >> 32n;
  hash = (hash * 0xd6e8feb86659fd93n) & BITS_64;
  return hash ^ (hash >> 32n);
}
