import type { Duplex } from 'node:stream';
import { backoffMs } from '#base/backoff.ts';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { RuntimeError, type RuntimeErrorCode } from '../../service.ts';
import {
  createDecoder,
  encodeFrame,
  encodeHello,
  encodeTime,
  FLAG_MORE,
  FRAME_TYPE,
  type Frame,
  MAX_HOST_PAYLOAD,
  PROTOCOL_VERSION,
  ProtocolError,
} from './channel.ts';
import { decodeReply } from './messages.ts';
import { type ProcessStreams, vmGone } from './streams.ts';

/** Agreed with guest/agent.h (MAX_FILE), with room for an answer's own words. */
const MAX_REPLY_BYTES = 1024 * 1024 + 4096;
/** The guest keeps as many answers. */
const MAX_PENDING = 400;
/** The guest's clock is set this often; an emulated one runs off by milliseconds an hour. */
const PING_INTERVAL_MS = 30_000;
const RECONNECT = { initialMs: 20, maxMs: 1000 };
/** A guest under emulation on a loaded machine; it answers within milliseconds otherwise. */
export const REQUEST_TIMEOUT_MS = 30_000;

/** errno → how the runtime's callers tell failures apart. Source: asm-generic/errno-base.h. */
const CODE_OF_ERRNO: Readonly<Record<number, RuntimeErrorCode>> = {
  2: 'NotFound',
  3: 'NotFound',
  17: 'AlreadyExists',
  38: 'Unimplemented',
};

type Pending = {
  parts: Buffer[];
  bytes: number;
  settle: (reply: { errno: number; text: string; data: Buffer }) => void;
  fail: (error: Error) => void;
};

export type ConnectionOptions = {
  /** Opens the port's socket; tried again while the VM lives. */
  open: () => Promise<Duplex>;
  clock: Clock;
  log: Log;
  /** `size` unpredictable bytes. */
  entropy: (size: number) => Uint8Array;
  /** This life of the runtime, eight bytes. */
  instance: Uint8Array;
  /** Aborted with the reason when the VM is gone. */
  signal: AbortSignal;
  /** The guest did what no agent does; its VM must not go on. */
  onViolation: (error: ProtocolError) => void;
};

/** One guest's channel over a VM's lifetime: connects, reconnects, asks, hands streams their frames. */
export class GuestConnection {
  readonly #options: ConnectionOptions;
  readonly #streams = new Map<number, ProcessStreams>();
  readonly #pending = new Map<number, Pending>();
  #socket: Duplex | undefined;
  #nonce: Uint8Array = new Uint8Array(8);
  #welcomed = Promise.withResolvers<{ release: string }>();
  #nextId: number;
  readonly #detached = new AbortController();
  readonly done: Promise<void>;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#nextId = Buffer.from(options.entropy(4)).readUInt32LE(0);
    this.#welcomed.promise.catch(() => {});
    this.done = this.#keepConnected();
  }

  /** Resolves with the guest's kernel release when the agent has answered. */
  async welcomed(options: { signal: AbortSignal }): Promise<{ release: string }> {
    const aborted = Promise.withResolvers<never>();
    const onAbort = (): void => aborted.reject(options.signal.reason as Error);
    if (options.signal.aborted) onAbort();
    options.signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await Promise.race([this.#welcomed.promise, aborted.promise]);
    } finally {
      options.signal.removeEventListener('abort', onAbort);
    }
  }

  /** Lets go of a VM that lives on: nothing is sent any more, and nobody is told of an end. */
  detach(): void {
    this.#detached.abort(new Error('the runtime has let go of the VM'));
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  newId(): number {
    this.#nextId = (this.#nextId + 1) >>> 0 || 1;
    return this.#nextId;
  }

  addStreams(streams: ProcessStreams): void {
    this.#streams.set(streams.id, streams);
  }

  removeStreams(id: number): void {
    this.#streams.delete(id);
  }

  send = (frame: Parameters<typeof encodeFrame>[1]): void => {
    this.#socket?.write(encodeFrame(this.#nonce, frame));
  };

  /**
   * Sends a request and gives what `parse` makes of its answer. `parse` runs before any later frame
   * of the guest is looked at. Fails with RuntimeError.
   */
  async request<T>(
    body: Buffer,
    options: { id?: number; timeoutMs?: number; parse: (data: Buffer) => T },
  ): Promise<T> {
    const { id = this.newId(), timeoutMs = REQUEST_TIMEOUT_MS, parse } = options;
    const { signal, clock } = this.#options;
    if (signal.aborted) throw vmGone(errorText(signal.reason));
    await this.welcomed({
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    }).catch((cause: unknown) => {
      throw signal.aborted ? vmGone(errorText(signal.reason)) : noAnswer(timeoutMs, cause);
    });
    if (this.#pending.size >= MAX_PENDING)
      throw new RuntimeError('Unavailable', 'too many requests to one guest at once');
    const answer = Promise.withResolvers<T>();
    const settle: Pending['settle'] = ({ errno, text, data }) => {
      if (errno !== 0)
        return answer.reject(new RuntimeError(CODE_OF_ERRNO[errno] ?? 'Unknown', text));
      try {
        answer.resolve(parse(data));
      } catch (error) {
        answer.reject(error);
        throw error;
      }
    };
    this.#pending.set(id, { parts: [], bytes: 0, settle, fail: answer.reject });
    const done = new AbortController();
    const over = AbortSignal.any([done.signal, this.#detached.signal]);
    const timer = clock.sleep(timeoutMs, { signal: over }).then(
      () => answer.reject(noAnswer(timeoutMs)),
      () => {},
    );
    try {
      for (let at = 0; at < body.length; at += MAX_HOST_PAYLOAD) {
        const payload = body.subarray(at, at + MAX_HOST_PAYLOAD);
        const flags = at + MAX_HOST_PAYLOAD < body.length ? FLAG_MORE : 0;
        this.send({ type: FRAME_TYPE.request, flags, id, payload });
      }
      return await answer.promise;
    } finally {
      this.#pending.delete(id);
      done.abort();
      await timer;
    }
  }

  async #keepConnected(): Promise<void> {
    const { clock, log } = this.#options;
    const signal = AbortSignal.any([this.#options.signal, this.#detached.signal]);
    let failures = 0;
    try {
      while (!signal.aborted) {
        try {
          await this.#runConnection(() => (failures = 0));
        } catch (error) {
          if (error instanceof ProtocolError) {
            this.#options.onViolation(error);
            return;
          }
          log.debug('no connection to the guest', { error: errorText(error) });
        }
        failures++;
        this.#dropConnection();
        await clock.sleep(backoffMs(failures, RECONNECT), { signal }).catch(() => {});
      }
    } finally {
      this.#end();
    }
  }

  #dropConnection(): void {
    if (this.#detached.signal.aborted) return;
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#welcomed.promise.catch(() => {});
    this.#welcomed.reject(new Error('the connection to the guest was lost'));
    if (!this.#options.signal.aborted) {
      this.#welcomed = Promise.withResolvers();
      this.#welcomed.promise.catch(() => {});
    }
    const lost = new RuntimeError('Unavailable', 'the connection to the guest was lost');
    for (const pending of this.#pending.values()) pending.fail(lost);
  }

  #end(): void {
    if (this.#detached.signal.aborted) return;
    const error = vmGone(errorText(this.#options.signal.reason ?? 'the guest broke the protocol'));
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#welcomed.reject(error);
    for (const pending of this.#pending.values()) pending.fail(error);
    for (const streams of this.#streams.values()) streams.fail(error);
    this.#streams.clear();
  }

  async #runConnection(onWelcome: () => void): Promise<void> {
    const { open, clock, entropy, instance } = this.#options;
    const signal = AbortSignal.any([this.#options.signal, this.#detached.signal]);
    const socket = await open();
    const end = new AbortController();
    const onAbort = (): void => void socket.destroy();
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    this.#socket = socket;
    this.#nonce = entropy(8);
    const decoder = createDecoder(this.#nonce);
    const hello = { nonce: this.#nonce, instance, nowMs: clock.now(), entropy: entropy(64) };
    socket.write(encodeHello(hello));
    const pings = this.#ping(AbortSignal.any([end.signal, signal]));
    try {
      for await (const bytes of socket as AsyncIterable<Buffer>)
        for (const frame of decoder.push(bytes)) this.#receive(frame, onWelcome);
    } finally {
      signal.removeEventListener('abort', onAbort);
      socket.destroy();
      end.abort();
      await pings;
    }
  }

  async #ping(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      await clock.sleep(PING_INTERVAL_MS, { signal }).catch(() => {});
      if (!signal.aborted) this.poke();
    }
  }

  /** Sets the guest's clock, and wakes it up. */
  poke(): void {
    const { clock } = this.#options;
    this.send({ type: FRAME_TYPE.ping, payload: encodeTime(clock.now()) });
  }

  #receive(frame: Frame, onWelcome: () => void): void {
    switch (frame.type) {
      case FRAME_TYPE.welcome:
        onWelcome();
        return this.#receiveWelcome(frame.payload);
      case FRAME_TYPE.reply:
        return this.#receiveReply(frame);
      case FRAME_TYPE.output:
        return this.#streams.get(frame.id)?.receive(frame);
      case FRAME_TYPE.stdinAcknowledge:
        if (frame.payload.length < 8) throw new ProtocolError('an acknowledgement of nothing');
        return this.#streams.get(frame.id)?.inputTaken(frame.payload.readBigUInt64LE(0));
      case FRAME_TYPE.pong:
        return;
      default:
        throw new ProtocolError(`a frame of type ${frame.type}`);
    }
  }

  #receiveWelcome(payload: Buffer): void {
    const version = payload.length >= 2 ? payload.readUInt16LE(0) : 0;
    if (version !== PROTOCOL_VERSION)
      throw new ProtocolError(`version ${version}, this runtime speaks ${PROTOCOL_VERSION}`);
    for (const streams of this.#streams.values()) streams.resend();
    this.#welcomed.resolve({ release: payload.toString('utf8', 2) });
  }

  #receiveReply({ id, flags, payload }: Frame): void {
    const pending = this.#pending.get(id);
    if (!pending) return; // its request gave up waiting
    pending.bytes += payload.length;
    if (pending.bytes > MAX_REPLY_BYTES) throw new ProtocolError('an answer without end');
    pending.parts.push(Buffer.from(payload));
    if (flags & FLAG_MORE) return;
    const reply = decodeReply(Buffer.concat(pending.parts));
    if (!reply) throw new ProtocolError('a malformed answer');
    this.#pending.delete(id);
    pending.settle(reply);
  }
}

const noAnswer = (timeoutMs: number, cause?: unknown): RuntimeError =>
  new RuntimeError('DeadlineExceeded', `the guest did not answer within ${timeoutMs / 1000} s`, {
    cause,
  });
