/**
 * A whole body in pieces that exist already: written one after the other, none is copied.
 * Also an AsyncIterable, so that who only knows streams can read it.
 */
export class Chunks implements AsyncIterable<Uint8Array> {
  readonly parts: readonly Uint8Array[];
  readonly sizeBytes: number;

  constructor(parts: readonly Uint8Array[]) {
    this.parts = parts;
    let size = 0;
    for (const part of parts) size += part.byteLength;
    this.sizeBytes = size;
  }

  join(): Buffer {
    return Buffer.concat(this.parts, this.sizeBytes);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    yield* this.parts;
  }
}
