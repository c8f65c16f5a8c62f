import { exactInteger, parseExact } from '#base/exact-json.ts';
import type { Field, Json } from '#proto/kubernetes-messages.ts';
import { MAGIC, MAX_DEPTH, ProtobufError, messageOf } from '#proto/kubernetes-messages.ts';

/**
 * Kubernetes' protobuf bodies as the JSON objects they stand for. Clients that are compiled against
 * the API (kubectl create, client-go, the upstream controllers) send these.
 * Source: API concepts "Kubernetes Protobuf encoding"; field numbers in kubernetes-fields.txt.
 */

/** Reads a message's bytes front to back. */
class Reader {
  readonly bytes: Buffer;
  at: number;
  readonly end: number;

  constructor(bytes: Buffer, at = 0, end = bytes.length) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
  }

  /** A variable-length integer, as the signed 64-bit number it stands for. */
  varint(): number {
    return Number(this.integer());
  }

  /** The same, a bigint where a number would not be exact. */
  integer(): number | bigint {
    // Nearly all numbers are small: tags, lengths, ports, counts.
    const first = this.bytes[this.at] as number;
    if (this.at < this.end && first < 0x80) {
      this.at++;
      return first;
    }
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (this.at >= this.end) throw new ProtobufError('unexpected end of a number');
      const byte = this.bytes[this.at++] as number;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return exactInteger(BigInt.asIntN(64, value));
    }
    throw new ProtobufError('a number is too long');
  }

  /** A length and that many bytes, as a reader of their own. */
  part(): Reader {
    const length = this.varint();
    const end = this.at + length;
    if (length < 0 || end > this.end) throw new ProtobufError('a length reaches beyond the end');
    const part = new Reader(this.bytes, this.at, end);
    this.at = end;
    return part;
  }

  double(): number {
    if (this.at + 8 > this.end) throw new ProtobufError('unexpected end of a number');
    const value = this.bytes.readDoubleLE(this.at);
    this.at += 8;
    return value;
  }

  rest(): Buffer {
    return this.bytes.subarray(this.at, this.end);
  }

  /** Passes over a field that we do not know. */
  skip(wireType: number): void {
    if (wireType === 0) this.varint();
    else if (wireType === 1) this.at += 8;
    else if (wireType === 2) this.part();
    else if (wireType === 5) this.at += 4;
    else throw new ProtobufError(`wire type ${wireType} is not used`);
    if (this.at > this.end) throw new ProtobufError('unexpected end of a field');
  }
}

/** What a body says it is, and its message's bytes. Throws ProtobufError. */
export type Envelope = { apiVersion: string; kind: string; raw: Uint8Array };

export function readEnvelope(body: Uint8Array): Envelope {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new ProtobufError('provided data does not appear to be a protobuf message');
  }
  let apiVersion = '';
  let kind = '';
  let raw = Buffer.alloc(0);
  const reader = new Reader(bytes, MAGIC.length);
  while (reader.at < reader.end) {
    const tag = reader.varint();
    if (tag === 0x0a) {
      const type = reader.part();
      while (type.at < type.end) {
        const field = type.varint();
        if (field === 0x0a) apiVersion = type.part().rest().toString('utf8');
        else if (field === 0x12) kind = type.part().rest().toString('utf8');
        else type.skip(field & 7);
      }
    } else if (tag === 0x12) raw = Buffer.from(reader.part().rest());
    else reader.skip(tag & 7);
  }
  return { apiVersion, kind, raw };
}

/** Decodes a message, such as `core.v1.Pod`, to JSON. Throws ProtobufError and SyntaxError. */
export function decodeMessage(raw: Uint8Array, name: string): Json {
  const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
  return readMessage(new Reader(bytes), name, {}, 0);
}

function readMessage(reader: Reader, name: string, into: Json, depth: number): Json {
  if (depth > MAX_DEPTH) throw new ProtobufError('messages are nested too deeply');
  const message = messageOf(name);
  while (reader.at < reader.end) {
    const tag = reader.varint();
    const field = message.byNumber.get(tag >>> 3);
    if (!field) {
      reader.skip(tag & 7);
      continue;
    }
    switch (field.shape) {
      case 'one':
        readField(reader, field, tag & 7, { into, depth });
        break;
      case 'list': {
        const list = (into[field.name] ??= []) as unknown[];
        list.push(readValue(reader, field.type, tag & 7, depth));
        break;
      }
      case 'map':
        readMapEntry(reader, field, into, depth);
        break;
      case 'embedded':
        readMessage(reader.part(), field.type, into, depth + 1);
        break;
    }
  }
  return into;
}

function readField(
  reader: Reader,
  field: Field,
  wireType: number,
  { into, depth }: { into: Json; depth: number },
): void {
  const value = readValue(reader, field.type, wireType, depth);
  // Go writes such fields even when nothing was said.
  if (field.omitsZero && (value === '' || value === 0 || value === false || value === null)) return;
  into[field.name] = value;
}

function readMapEntry(reader: Reader, field: Field, into: Json, depth: number): void {
  const map = (into[field.name] ??= {}) as Json;
  const entry = reader.part();
  let key = '';
  let value: unknown;
  while (entry.at < entry.end) {
    const tag = entry.varint();
    if (tag === 0x0a) key = entry.part().rest().toString('utf8');
    else if (tag >>> 3 === 2) value = readValue(entry, field.type, tag & 7, depth);
    else entry.skip(tag & 7);
  }
  // An empty value is left out on the wire.
  value ??= field.type === 'string' || field.type === 'bytes' ? '' : {};
  Object.defineProperty(map, key, { value, enumerable: true, writable: true, configurable: true });
}

const SCALAR_WIRE: Readonly<Record<string, number>> = {
  string: 2,
  bytes: 2,
  bool: 0,
  int32: 0,
  int64: 0,
  uint32: 0,
  double: 1,
};

function readValue(reader: Reader, type: string, wireType: number, depth: number): unknown {
  if (wireType !== (SCALAR_WIRE[type] ?? 2)) {
    throw new ProtobufError(`wire type ${wireType} is wrong for ${type}`);
  }
  switch (type) {
    case 'string':
      return reader.part().rest().toString('utf8');
    case 'bytes':
      return reader.part().rest().toString('base64');
    case 'bool':
      return reader.varint() !== 0;
    case 'int64':
      return reader.integer();
    case 'int32':
    case 'uint32':
      return reader.varint();
    case 'double':
      return reader.double();
    default:
      return readNamed(reader.part(), type, depth + 1);
  }
}

/** Messages whose JSON is not an object of their fields. */
function readNamed(part: Reader, type: string, depth: number): unknown {
  const empty = part.at === part.end;
  const fields = readMessage(part, type, {}, depth);
  switch (type) {
    case 'api.resource.Quantity':
      return String(fields['string'] ?? '0');
    case 'meta.v1.Time':
      return empty ? null : timeOf(fields, 0);
    case 'meta.v1.MicroTime':
      return empty ? null : timeOf(fields, 6);
    case 'util.intstr.IntOrString':
      return fields['type'] === 1 ? (fields['strVal'] ?? '') : (fields['intVal'] ?? 0);
    case 'runtime.RawExtension':
    case 'meta.v1.FieldsV1':
    case 'apiextensions.v1.JSON': {
      const raw = (fields['raw'] ?? '') as string;
      return raw === '' ? null : parseExact(Buffer.from(raw, 'base64').toString('utf8'));
    }
    case 'apiextensions.v1.JSONSchemaPropsOrBool':
      return fields['schema'] ?? fields['allows'] ?? false;
    case 'apiextensions.v1.JSONSchemaPropsOrArray':
      return fields['jSONSchemas'] ?? fields['schema'] ?? null;
    case 'apiextensions.v1.JSONSchemaPropsOrStringArray':
      return fields['property'] ?? fields['schema'] ?? null;
    default:
      return messageOf(type).isList ? (fields['items'] ?? []) : fields;
  }
}

/** The last moment that RFC 3339 has a way to write. */
const MAX_SECONDS = 253_402_300_799;

/** RFC 3339 with that many fractional digits. */
function timeOf({ seconds = 0, nanos = 0 }: Json, digits: number): string {
  if (Math.abs(Number(seconds)) > MAX_SECONDS) throw new ProtobufError('a time is out of range');
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  if (digits === 0) return `${whole}Z`;
  return `${whole}.${String(nanos).padStart(9, '0').slice(0, digits)}Z`;
}
