import { mandatoryFlowSchemas, mandatoryPriorityLevels } from '#api/flowcontrol/mandatory.ts';
import type { FlowSchema, KubeObject, PriorityLevelConfiguration } from '#api/types.ts';
import type { Clock } from '#base/clock.ts';
import type { FlowMatcher } from '#apiserver/fairness-match.ts';
import { compileFlowSchemas, distinguish } from '#apiserver/fairness-match.ts';
import { arrangeLevels, type Level } from '#apiserver/fairness-levels.ts';
import type { Waiter } from '#apiserver/fairness-queues.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import type { RequestInfo } from '#apiserver/request.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** A request that waits longer is refused; upstream: a quarter of a request's time. */
const MAX_WAIT_MS = 15_000;
/** How often those who wait are looked at; only while somebody waits. */
const WAIT_CHECK_MS = 1_000;

/** A list of this many objects counts as one request more, up to MAX_SEATS. */
const OBJECTS_PER_SEAT = 1_000;
const MAX_SEATS = 10;

/** Requests that last as long as their user likes: no seat can be kept for them. */
const LONG_RUNNING = new Set(['attach', 'exec', 'log', 'portforward', 'proxy']);

const GROUP = 'flowcontrol.apiserver.k8s.io';

/** The right to be worked on; to be given back by `leave`. */
export type Ticket = {
  level: Level;
  schema: FlowMatcher;
  seats: number;
  startMs: number;
  /** Set for requests that waited: settles their flow's account. */
  finished: ((tookMs: number) => void) | undefined;
};

/** Thrown instead of a ticket: answered with 429 and upstream's text. */
export class TooManyRequests extends Error {
  readonly level: Level;
  readonly schema: FlowMatcher;
  constructor(level: Level, schema: FlowMatcher) {
    super('Too many requests, please try again later.');
    this.name = 'TooManyRequests';
    this.level = level;
    this.schema = schema;
  }
}

export type FairnessConfig = {
  reader: ObjectReader;
  /** Requests worked on at once, over all levels but the exempt one. */
  totalSeats: number;
  /** How many objects a resource has; lists of many cost more. */
  sizeOf?: (group: string, resource: string) => number;
  clock: Clock;
  /** Monotonic, milliseconds. */
  nowMs?: () => number;
  /** Ends the waiting of all. */
  signal: AbortSignal;
};

/**
 * Priority and fairness: requests are told apart by flow schemas, each priority level has its seats,
 * and where they are all taken the flows of a level take turns. Without contention a request pays
 * for finding its schema and two counters.
 *
 * Seats are given back at the end of the event loop's turn, so that one turn works on a bounded
 * number of requests of a flow before others have had theirs: work in this server is mostly
 * synchronous, and waiting for the store is not the only thing that there is to share.
 *
 * Unlike upstream, which moves limits every ten seconds by the demand of the past, seats are lent
 * and borrowed at the moment: an unused lendable seat is anybody's, and when it is given back it
 * goes first to a level below its own nominal limit.
 * Source: Kubernetes "API Priority and Fairness"; KEP-1040.
 */
export class Fairness {
  readonly #config: FairnessConfig;
  readonly #now: () => number;
  readonly #levels = new Map<string, Level>();
  #schemas: FlowMatcher[] = [];
  #stale = true;
  /** Seats that all levels lend together, and how many of them are taken, by owners or others. */
  #pool = 0;
  #poolInUse = 0;
  #waiting = 0;
  #leaving: Ticket[] = [];
  #checking = false;

  constructor(config: FairnessConfig) {
    this.#config = config;
    this.#now = config.nowMs ?? (() => performance.now());
  }

  /** The objects have changed: read them before the next request. */
  refresh(): void {
    this.#stale = true;
  }

  get levels(): Iterable<Level> {
    if (this.#stale) this.#configure();
    return this.#levels.values();
  }

  /**
   * The request's turn: at once, or when a seat is free. Null: the request is not limited.
   * Throws or rejects with TooManyRequests.
   */
  enter(
    user: UserInfo,
    info: RequestInfo,
    request: { readonly signal: AbortSignal },
  ): Ticket | Promise<Ticket> | null {
    if (this.#stale) this.#configure();
    if (info.subresource !== '' && LONG_RUNNING.has(info.subresource)) return null;
    const schema = this.#find(user, info);
    const level = this.#levels.get(schema.level) as Level;
    if (level.exempt) {
      level.executing++;
      return { level, schema, seats: 0, startMs: 0, finished: undefined };
    }
    const seats = this.#width(info, level);
    if (level.queues.length === 0 && this.#mayTake(level, seats)) {
      this.#take(level, seats);
      return { level, schema, seats, startMs: 0, finished: undefined };
    }
    if (!level.queuing) {
      level.reject('concurrency-limit');
      throw new TooManyRequests(level, schema);
    }
    return this.#wait(level, schema, seats, distinguish(schema, user, info), request.signal);
  }

  leave(ticket: Ticket): void {
    if (ticket.level.exempt) {
      ticket.level.executing--;
      return;
    }
    ticket.finished?.(this.#now() - ticket.startMs);
    if (this.#leaving.push(ticket) === 1) setImmediate(() => this.#settle());
  }

  #find(user: UserInfo, info: RequestInfo): FlowMatcher {
    for (const schema of this.#schemas) if (schema.matches(user, info)) return schema;
    // The mandatory catch-all takes everybody who is in a group; others are treated alike.
    return this.#schemas.at(-1) as FlowMatcher;
  }

  #width(info: RequestInfo, level: Level): number {
    if (info.verb !== 'list' || !this.#config.sizeOf) return 1;
    const objects = this.#config.sizeOf(info.group, info.resource);
    const seats = Math.min(MAX_SEATS, 1 + Math.floor(objects / OBJECTS_PER_SEAT));
    return Math.max(1, Math.min(seats, level.nominal));
  }

  /** Whether taking these seats now takes nothing from a level that needs them itself. */
  #mayTake(level: Level, seats: number): boolean {
    const { inUse, nominal, reserved, borrowLimit } = level;
    const then = inUse + seats;
    if (then <= reserved) return true;
    const drawn = then - Math.max(inUse, reserved);
    if (this.#poolInUse + drawn > this.#pool) return false;
    if (then <= nominal) return true;
    return then <= nominal + borrowLimit && (this.#waiting === 0 || !this.#ownerWaits(level));
  }

  #ownerWaits(borrower: Level): boolean {
    for (const level of this.#levels.values()) {
      if (level === borrower || level.queues.length === 0) continue;
      if (level.inUse < level.nominal) return true;
    }
    return false;
  }

  #take(level: Level, seats: number): void {
    const before = Math.max(0, level.inUse - level.reserved);
    level.inUse += seats;
    level.executing++;
    level.dispatched++;
    this.#poolInUse += Math.max(0, level.inUse - level.reserved) - before;
  }

  #giveBack(level: Level, seats: number): void {
    const before = Math.max(0, level.inUse - level.reserved);
    level.inUse -= seats;
    level.executing--;
    if (this.#levels.get(level.name) !== level) return;
    this.#poolInUse += Math.max(0, level.inUse - level.reserved) - before;
  }

  #wait(
    level: Level,
    schema: FlowMatcher,
    seats: number,
    flow: string,
    signal: AbortSignal,
  ): Promise<Ticket> {
    return new Promise((resolve, reject) => {
      const gone = (): void => {
        if (!level.queues.remove(waiter)) return;
        level.reject('cancelled');
        waiter.decide(false);
      };
      const waiter: Waiter = {
        seats,
        sinceMs: this.#now(),
        decide: (go) => {
          signal.removeEventListener('abort', gone);
          this.#waiting--;
          if (!go) reject(new TooManyRequests(level, schema));
          else resolve({ level, schema, seats, startMs: this.#now(), finished: go.finished });
        },
      };
      if (!level.queues.add(`${schema.name}\n${flow}`, waiter)) {
        level.reject('queue-full');
        reject(new TooManyRequests(level, schema));
        return;
      }
      this.#waiting++;
      signal.addEventListener('abort', gone, { once: true });
      // Seats given back in this turn are nobody's yet.
      if (this.#leaving.length === 0) this.#dispatch();
      this.#watchWaiting();
    });
  }

  /** The end of a turn: what its requests held is free. */
  #settle(): void {
    const leaving = this.#leaving;
    this.#leaving = [];
    for (const { level, seats } of leaving) this.#giveBack(level, seats);
    if (this.#waiting > 0) this.#dispatch();
  }

  /** Lets requests in while there are seats: levels below their own limit first. */
  #dispatch(): void {
    for (let progress = true; progress && this.#waiting > 0; ) {
      progress = false;
      for (const own of [true, false]) {
        for (const level of this.#levels.values()) {
          if (level.queues.length === 0 || level.inUse < level.nominal !== own) continue;
          if (this.#dispatchOne(level)) progress = true;
        }
      }
    }
  }

  #dispatchOne(level: Level): boolean {
    const next = level.queues.peek();
    if (!next || !this.#mayTake(level, next.seats)) return false;
    const taken = level.queues.take();
    if (!taken) return false;
    this.#take(level, next.seats);
    next.decide({ finished: taken.finished });
    return true;
  }

  /** Refuses those who have waited too long, for as long as anybody waits. */
  #watchWaiting(): void {
    if (this.#checking) return;
    this.#checking = true;
    const { clock, signal } = this.#config;
    const look = async (): Promise<void> => {
      while (this.#waiting > 0) {
        await clock.sleep(WAIT_CHECK_MS, { signal });
        this.#refuseOlder(this.#now() - MAX_WAIT_MS);
      }
    };
    look()
      .catch(() => this.#refuseOlder(Number.POSITIVE_INFINITY))
      .finally(() => {
        this.#checking = false;
      });
  }

  #refuseOlder(sinceMs: number): void {
    for (const level of this.#levels.values()) {
      for (const waiter of level.queues.takeOlder(sinceMs)) {
        level.reject('time-out');
        waiter.decide(false);
      }
    }
  }

  #configure(): void {
    this.#stale = false;
    const { reader, totalSeats } = this.#config;
    const configs = withMandatory<PriorityLevelConfiguration>(
      reader.list(GROUP, 'prioritylevelconfigurations'),
      mandatoryPriorityLevels,
    );
    for (const level of arrangeLevels(this.#levels, configs, totalSeats)) this.#abandon(level);
    const schemas = withMandatory<FlowSchema>(
      reader.list(GROUP, 'flowschemas'),
      mandatoryFlowSchemas,
    );
    // A schema whose level does not exist is passed over, as if it were not there.
    this.#schemas = compileFlowSchemas(schemas).filter(({ level }) => this.#levels.has(level));
    this.#pool = 0;
    this.#poolInUse = 0;
    for (const level of this.#levels.values()) {
      this.#pool += level.lendable;
      this.#poolInUse += Math.max(0, level.inUse - level.reserved);
    }
    if (this.#waiting > 0) this.#dispatch();
  }

  /** A level that is no more: who waits in it comes again and finds another. */
  #abandon(level: Level): void {
    for (const waiter of level.queues.takeOlder(Number.POSITIVE_INFINITY)) {
      level.reject('cancelled');
      waiter.decide(false);
    }
  }
}

/** The server's limits hold before the objects exist, and whoever removes them. */
function withMandatory<T extends KubeObject>(stored: readonly T[], mandatory: readonly T[]): T[] {
  const names = new Set(stored.map(({ metadata }) => metadata.name));
  return [...stored, ...mandatory.filter(({ metadata }) => !names.has(metadata.name))];
}
