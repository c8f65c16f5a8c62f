import { RuntimeError } from '../../service.ts';
import type { GuestExit } from '../machine.ts';
import { FLAG_EOF, FRAME_TYPE, type Frame, MAX_HOST_PAYLOAD, ProtocolError } from './channel.ts';

/** Agreed with guest/process.c: what the guest keeps of a process's input, not yet taken. */
const INPUT_WINDOW_BYTES = 64 * 1024;
/** Twice what an honest guest sends without an acknowledgement. */
const MAX_QUEUED_BYTES = 256 * 1024;
const CHANNEL = { 1: 'stdout', 2: 'stderr' } as const;
const EXIT_CHANNEL = 255;
const MAX_INPUT_CHUNK = MAX_HOST_PAYLOAD - 8;

export type OutputChunk = { stream: 'stdout' | 'stderr'; bytes: Uint8Array };

type Outgoing = { type: number; flags?: number; id: number; payload: Uint8Array };

/**
 * The host's side of one process's streams. Output comes as numbered records and is taken in order,
 * each once; input is kept until the guest has taken it. So both survive a lost connection.
 */
export class ProcessStreams {
  readonly id: number;
  readonly exit: Promise<GuestExit>;
  #send: (frame: Outgoing) => void;
  #settleExit = Promise.withResolvers<GuestExit>();
  #exited = false;
  #failure: Error | undefined;
  #nextSequence: bigint;
  #taken: bigint;
  #acknowledged: bigint;
  #queue: { sequence: bigint; chunk: OutputChunk }[] = [];
  #queuedBytes = 0;
  #wakeReader: (() => void) | undefined;
  #unsent: { offset: bigint; bytes: Uint8Array; eof: boolean }[] = [];
  #inputOffset: bigint;
  #inputTaken: bigint;
  #inputEnded: boolean;
  #wakeWriters = new Set<() => void>();

  constructor(options: {
    id: number;
    send: (frame: Outgoing) => void;
    nextSequence?: bigint;
    inputOffset?: bigint;
    inputEnded?: boolean;
  }) {
    this.id = options.id;
    this.#send = options.send;
    this.#nextSequence = options.nextSequence ?? 1n;
    this.#taken = this.#acknowledged = this.#nextSequence - 1n;
    this.#inputOffset = this.#inputTaken = options.inputOffset ?? 0n;
    this.#inputEnded = options.inputEnded ?? false;
    this.exit = this.#settleExit.promise;
    this.exit.catch(() => {}); // whoever waits for it sees the failure
  }

  get exited(): boolean {
    return this.#exited;
  }

  get taken(): bigint {
    return this.#taken;
  }

  /** Takes a record from the guest. Throws ProtocolError. */
  receive({ payload }: Frame): void {
    if (payload.length < 9) throw new ProtocolError('a record without a number');
    const sequence = payload.readBigUInt64LE(0);
    if (sequence < this.#nextSequence) return; // sent again after a reconnect
    if (sequence > this.#nextSequence || this.#exited)
      throw new ProtocolError('records out of order');
    this.#nextSequence = sequence + 1n;
    const channel = payload[8] ?? 0;
    if (channel === EXIT_CHANNEL) return this.#receiveExit(payload.subarray(9));
    const stream = channel === 1 || channel === 2 ? CHANNEL[channel] : undefined;
    if (!stream) throw new ProtocolError(`output on channel ${channel}`);
    this.#queuedBytes += payload.length;
    if (this.#queuedBytes > MAX_QUEUED_BYTES)
      throw new ProtocolError('more output than was acknowledged');
    // A copy: the payload is a view into a much larger read.
    this.#queue.push({ sequence, chunk: { stream, bytes: Buffer.from(payload.subarray(9)) } });
    this.#wakeReader?.();
  }

  #receiveExit(body: Buffer): void {
    if (body.length < 13) throw new ProtocolError('an exit without a code');
    this.#exited = true;
    this.#settleExit.resolve({
      code: body.readInt32LE(0),
      oomKilled: body[4] === 1,
      finishedAtMs: Number(body.readBigInt64LE(5)),
    });
    this.#wakeReader?.();
    this.#wakeAllWriters();
  }

  /** The guest has given input to the process up to here. */
  inputTaken(offset: bigint): void {
    if (offset > this.#inputOffset + 1n) throw new ProtocolError('input taken that was not given');
    if (offset > this.#inputTaken) this.#inputTaken = offset;
    this.#unsent = this.#unsent.filter(
      ({ offset: at, bytes, eof }) => at + BigInt(bytes.length + (eof ? 1 : 0)) > this.#inputTaken,
    );
    this.#wakeAllWriters();
  }

  /** A new connection: what the guest has not taken is sent once more. */
  resend(): void {
    for (const part of this.#unsent) this.#sendInput(part);
  }

  /** The VM is gone: waiting readers, writers and `exit` end with `error`. */
  fail(error: Error): void {
    this.#failure = error;
    if (!this.#exited) this.#settleExit.reject(error);
    this.#wakeReader?.();
    this.#wakeAllWriters();
  }

  async *output(): AsyncGenerator<OutputChunk> {
    for (;;) {
      const next = this.#queue.shift();
      if (next) {
        this.#queuedBytes -= next.chunk.bytes.length + 9;
        this.#taken = next.sequence;
        yield next.chunk;
        continue;
      }
      if (this.#exited) return;
      if (this.#failure) throw this.#failure;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wakeReader = resolve;
      await promise;
      this.#wakeReader = undefined;
    }
  }

  acknowledge(): void {
    const sequence =
      this.#exited && this.#queue.length === 0 ? this.#nextSequence - 1n : this.#taken;
    if (sequence <= this.#acknowledged) return;
    this.#acknowledged = sequence;
    const payload = Buffer.alloc(8);
    payload.writeBigUInt64LE(sequence);
    this.#send({ type: FRAME_TYPE.acknowledge, id: this.id, payload });
  }

  /** Resolves when the guest has room for all of it; what an ended process does not read is dropped. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += MAX_INPUT_CHUNK) {
      const chunk = Buffer.from(bytes.subarray(at, at + MAX_INPUT_CHUNK));
      await this.#untilRoom(chunk.length);
      if (this.#exited || this.#inputEnded) return;
      this.#queueInput(chunk, false);
    }
  }

  async closeStdin(): Promise<void> {
    await this.#untilRoom(1);
    if (this.#exited || this.#inputEnded) return;
    this.#inputEnded = true;
    this.#queueInput(new Uint8Array(), true);
  }

  #queueInput(bytes: Uint8Array, eof: boolean): void {
    const part = { offset: this.#inputOffset, bytes, eof };
    this.#inputOffset += BigInt(bytes.length);
    this.#unsent.push(part);
    this.#sendInput(part);
  }

  #sendInput({ offset, bytes, eof }: { offset: bigint; bytes: Uint8Array; eof: boolean }): void {
    const head = Buffer.alloc(8);
    head.writeBigUInt64LE(offset);
    const payload = Buffer.concat([head, bytes]);
    this.#send({ type: FRAME_TYPE.stdin, flags: eof ? FLAG_EOF : 0, id: this.id, payload });
  }

  async #untilRoom(length: number): Promise<void> {
    for (;;) {
      if (this.#failure) throw this.#failure;
      if (this.#exited) return;
      const waiting = Number(this.#inputOffset - this.#inputTaken);
      if (waiting + length <= INPUT_WINDOW_BYTES) return;
      await new Promise<void>((resolve) => this.#wakeWriters.add(resolve));
    }
  }

  #wakeAllWriters(): void {
    for (const wake of this.#wakeWriters) wake();
    this.#wakeWriters.clear();
  }
}

/** The error of everything that waited for a VM that is gone. */
export const vmGone = (reason: string): RuntimeError =>
  new RuntimeError('Unavailable', `the pod's virtual machine is gone: ${reason}`);
