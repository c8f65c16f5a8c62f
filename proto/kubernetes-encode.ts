import type { Field, Json } from '#proto/kubernetes-messages.ts';
import { MAGIC, ProtobufError, messageNameOf, messageOf } from '#proto/kubernetes-messages.ts';

/**
 * JSON objects as Kubernetes' protobuf bodies. What JSON leaves out is left out here too: readers
 * take an absent field for its zero value, as they do in JSON.
 * Source: API concepts "Kubernetes Protobuf encoding"; field numbers in kubernetes-fields.txt.
 */

const START_BYTES = 64 * 1024;
/** A buffer that one huge object made larger than this is let go of. */
const KEEP_BYTES = 1024 * 1024;

/**
 * Grows towards the front: a message's length stands before it and is known only after it, so
 * everything is written from its end.
 */
class Writer {
  #bytes = Buffer.allocUnsafe(START_BYTES);
  #at = START_BYTES;

  /** How much is written; two of them make the length of what is between. */
  get size(): number {
    return this.#bytes.length - this.#at;
  }

  /** What was written, as the caller's own; the writer is empty again. */
  take(): Buffer {
    const taken = Buffer.from(this.#bytes.subarray(this.#at));
    if (this.#bytes.length > KEEP_BYTES) this.#bytes = Buffer.allocUnsafe(START_BYTES);
    this.#at = this.#bytes.length;
    return taken;
  }

  clear(): void {
    this.#at = this.#bytes.length;
  }

  #reserve(count: number): number {
    if (count > this.#at) {
      const { size } = this;
      const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, (size + count) * 2));
      this.#bytes.copy(larger, larger.length - size, this.#at);
      this.#bytes = larger;
      this.#at = larger.length - size;
    }
    return (this.#at -= count);
  }

  varint(value: number | bigint): void {
    if (typeof value === 'bigint' || value < 0 || value > 0x7fff_ffff)
      return this.#longVarint(value);
    let length = 1;
    for (let rest = value >>> 7; rest > 0; rest >>>= 7) length++;
    let at = this.#reserve(length);
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes[at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[at] = rest;
  }

  /** Negative numbers take ten bytes: they are 64 bits long. */
  #longVarint(value: number | bigint): void {
    const bytes: number[] = [];
    let rest = BigInt.asUintN(64, typeof value === 'bigint' ? value : BigInt(Math.trunc(value)));
    while (rest >= 0x80n) {
      bytes.push(Number(rest & 0x7fn) | 0x80);
      rest >>= 7n;
    }
    bytes.push(Number(rest));
    const at = this.#reserve(bytes.length);
    for (let i = 0; i < bytes.length; i++) this.#bytes[at + i] = bytes[i] as number;
  }

  double(value: number): void {
    const at = this.#reserve(8);
    this.#bytes.writeDoubleLE(value, at);
  }

  /** A length, and the text in UTF-8. */
  text(value: string): void {
    const length = Buffer.byteLength(value);
    const at = this.#reserve(length);
    this.#bytes.write(value, at, length, 'utf8');
    this.varint(length);
  }

  /** A length, and the bytes. */
  bytes(value: Uint8Array): void {
    const at = this.#reserve(value.length);
    this.#bytes.set(value, at);
    this.varint(value.length);
  }
}

const writer = new Writer();

/** The bytes of a message, such as `core.v1.Pod`. Throws ProtobufError for what does not fit it. */
export function encodeMessage(object: Readonly<Json>, name: string): Buffer {
  try {
    writeFields(object, name);
    return writer.take();
  } finally {
    writer.clear();
  }
}

/** A whole body; undefined when there is no message for the object's type. */
export function encodeBody(object: Readonly<Json>): Buffer | undefined {
  // Discovery documents leave their version out; it is v1.
  const { apiVersion = 'v1', kind = '' } = object as { apiVersion?: string; kind?: string };
  const name = messageNameOf(apiVersion, kind);
  if (name === undefined) return undefined;
  return envelope(apiVersion, kind, encodeMessage(object, name));
}

/** A message's bytes with the name of its type: what a body is. */
export function envelope(apiVersion: string, kind: string, raw: Uint8Array): Buffer {
  try {
    // contentEncoding and contentType, which upstream writes empty.
    writer.text('');
    writer.varint(0x22);
    writer.text('');
    writer.varint(0x1a);
    writer.bytes(raw);
    writer.varint(0x12);
    const before = writer.size;
    writer.text(kind);
    writer.varint(0x12);
    writer.text(apiVersion);
    writer.varint(0x0a);
    writer.varint(writer.size - before);
    writer.varint(0x0a);
    return Buffer.concat([MAGIC, writer.take()]);
  } finally {
    writer.clear();
  }
}

/** A list's message out of its items' bytes. `name` is the list's: `core.v1.PodList`. */
export function joinMessages(
  metadata: Readonly<Json>,
  items: readonly Uint8Array[],
  name: string,
): Buffer {
  const numbers = [...messageOf(name).byNumber.values()];
  const itemTag = lengthTag(numbers.find((field) => field.name === 'items')?.number ?? 2);
  const head = encodeMessage({ metadata }, name);
  let size = head.length;
  for (const item of items) size += 1 + varintLength(item.length) + item.length;
  const out = Buffer.allocUnsafe(size);
  let at = head.copy(out);
  for (const item of items) {
    out[at++] = itemTag;
    let rest = item.length;
    while (rest >= 0x80) {
      out[at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    out[at++] = rest;
    out.set(item, at);
    at += item.length;
  }
  return out;
}

/** One event of a watch: its length in four bytes, and a WatchEvent around the object's body. */
export function watchFrame(type: string, body: Uint8Array): Buffer {
  try {
    writer.bytes(body);
    writer.varint(0x0a);
    writer.varint(writer.size);
    writer.varint(0x12);
    writer.text(type);
    writer.varint(0x0a);
    const length = Buffer.allocUnsafe(4);
    length.writeUInt32BE(writer.size);
    return Buffer.concat([length, writer.take()]);
  } finally {
    writer.clear();
  }
}

const lengthTag = (number: number): number => (number << 3) | 2;

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) length++;
  return length;
}

const WIRE_TYPES: Readonly<Record<string, number>> = {
  bool: 0,
  int32: 0,
  int64: 0,
  uint32: 0,
  double: 1,
};

function writeFields(object: Readonly<Json>, name: string): void {
  for (const field of messageOf(name).descending) {
    if (field.shape === 'embedded') {
      const before = writer.size;
      writeFields(object, field.type);
      if (writer.size > before) writeTag(field.number, 2, writer.size - before);
      continue;
    }
    const value = object[field.name];
    if (value === undefined || value === null) continue;
    if (field.shape === 'one') writeField(field, value);
    else if (field.shape === 'list') writeList(field, value);
    else writeMap(field, value);
  }
}

function writeTag(number: number, wireType: number, length?: number): void {
  if (length !== undefined) writer.varint(length);
  writer.varint((number << 3) | wireType);
}

function writeField({ number, type }: Field, value: unknown): void {
  writeValue(type, value);
  writeTag(number, WIRE_TYPES[type] ?? 2);
}

function writeList(field: Field, value: unknown): void {
  if (!Array.isArray(value)) throw mismatch(field.name, 'a list');
  for (let i = value.length - 1; i >= 0; i--) {
    // A list keeps its length: null stands for the zero value.
    writeField(field, value[i] ?? zeroOf(field.type));
  }
}

function writeMap(field: Field, value: unknown): void {
  if (typeof value !== 'object' || Array.isArray(value)) throw mismatch(field.name, 'an object');
  const map = value as Json;
  for (const key of Object.keys(map).sort().reverse()) {
    const before = writer.size;
    writeField({ ...field, number: 2 }, map[key] ?? zeroOf(field.type));
    writer.text(key);
    writer.varint(0x0a);
    writeTag(field.number, 2, writer.size - before);
  }
}

const zeroOf = (type: string): unknown =>
  type === 'string' || type === 'bytes' ? '' : type in WIRE_TYPES ? 0 : {};

/** A value with its length, where it has one. */
function writeValue(type: string, value: unknown): void {
  switch (type) {
    case 'string':
      if (typeof value !== 'string') throw mismatch(type, 'text');
      return writer.text(value);
    case 'bytes':
      if (typeof value !== 'string') throw mismatch(type, 'base64 text');
      return writer.bytes(Buffer.from(value, 'base64'));
    case 'bool':
      return writer.varint(value ? 1 : 0);
    case 'int32':
    case 'int64':
    case 'uint32':
      if (typeof value !== 'number' && typeof value !== 'bigint') throw mismatch(type, 'a number');
      return writer.varint(value);
    case 'double':
      if (typeof value !== 'number') throw mismatch(type, 'a number');
      return writer.double(value);
    default: {
      const before = writer.size;
      writeNamed(type, value);
      writer.varint(writer.size - before);
    }
  }
}

/** Messages whose JSON is not an object of their fields. */
function writeNamed(type: string, value: unknown): void {
  switch (type) {
    case 'api.resource.Quantity':
      return writeFields({ string: String(value) }, type);
    case 'meta.v1.Time':
      return writeTime(value, type, 1);
    case 'meta.v1.MicroTime':
      return writeTime(value, type, 1_000_000);
    case 'util.intstr.IntOrString':
      return typeof value === 'number'
        ? writeFields({ type: 0, intVal: value, strVal: '' }, type)
        : writeFields({ type: 1, intVal: 0, strVal: String(value) }, type);
    case 'runtime.RawExtension':
    case 'meta.v1.FieldsV1':
    case 'apiextensions.v1.JSON':
      writer.bytes(Buffer.from(JSON.stringify(value)));
      return writer.varint(0x0a);
    case 'apiextensions.v1.JSONSchemaPropsOrBool':
      return typeof value === 'boolean'
        ? writeFields({ allows: value }, type)
        : writeFields({ allows: true, schema: value }, type);
    case 'apiextensions.v1.JSONSchemaPropsOrArray':
      return writeFields(Array.isArray(value) ? { jSONSchemas: value } : { schema: value }, type);
    case 'apiextensions.v1.JSONSchemaPropsOrStringArray':
      return writeFields(Array.isArray(value) ? { property: value } : { schema: value }, type);
    default:
      if (messageOf(type).isList) return writeFields({ items: value }, type);
      if (typeof value !== 'object' || Array.isArray(value)) throw mismatch(type, 'an object');
      return writeFields(value as Json, type);
  }
}

/** Seconds, and the fraction as far as `perSecond` parts. Go's zero time is an empty message. */
function writeTime(value: unknown, type: string, perSecond: number): void {
  if (typeof value !== 'string') return;
  const milliseconds = Date.parse(value);
  if (Number.isNaN(milliseconds)) throw mismatch(type, 'a time');
  const seconds = Math.floor(milliseconds / 1000);
  const fraction = /\.(\d+)/.exec(value)?.[1] ?? '';
  const parts = Math.trunc(Number(`0.${fraction || '0'}`) * perSecond + 1e-6);
  writeFields({ seconds, nanos: perSecond === 1 ? 0 : parts * (1e9 / perSecond) }, type);
}

const mismatch = (what: string, expected: string): ProtobufError =>
  new ProtobufError(`${what} is not ${expected}`);
