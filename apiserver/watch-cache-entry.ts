import type { KubeObject } from '#api/types.ts';
import { parseExact } from '#base/exact-json.ts';

const METADATA = Buffer.from('"metadata":{');
const RESOURCE_VERSION = '"resourceVersion":"';

/**
 * One version of one stored object: its bytes as clients see them, made once, and the decoded
 * object, made when somebody asks and let go of when memory is wanted.
 */
export class CacheEntry {
  /** `namespace/name`, or `name` for cluster-scoped resources. */
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  readonly createRevision: number;
  readonly revision: number;
  /** JSON with metadata.resourceVersion spliced in. Never mutate. */
  readonly wire: Buffer;
  /** With what the stored value is sealed, where values are. */
  readonly seal: string | undefined;
  #object: WeakRef<KubeObject> | undefined;
  #labels: Readonly<Record<string, string>> | undefined;
  /** The same object as other API versions or forms show it, by form. */
  #views: WeakMap<object, Buffer> | undefined;

  constructor(fields: {
    id: string;
    createRevision: number;
    revision: number;
    wire: Buffer;
    object?: KubeObject | undefined;
    seal?: string | undefined;
  }) {
    this.id = fields.id;
    const slash = fields.id.indexOf('/');
    this.namespace = slash < 0 ? '' : fields.id.slice(0, slash);
    this.name = fields.id.slice(slash + 1);
    this.createRevision = fields.createRevision;
    this.revision = fields.revision;
    this.wire = fields.wire;
    this.seal = fields.seal;
    if (fields.object) this.#object = new WeakRef(fields.object);
  }

  /** Shared: never mutate. */
  get object(): KubeObject {
    const held = this.#object?.deref();
    if (held) return held;
    const object = parseExact(this.wire.toString('utf8')) as KubeObject;
    this.#object = new WeakRef(object);
    return object;
  }

  /** metadata.labels, kept decoded because every selector reads them. */
  get labels(): Readonly<Record<string, string>> {
    this.#labels ??= (this.object.metadata.labels as Record<string, string> | undefined) ?? {};
    return this.#labels;
  }

  /** The caller's own copy. */
  copy(): KubeObject {
    return parseExact(this.wire.toString('utf8')) as KubeObject;
  }

  /** Bytes of another form of this object, made once; kept while the form is in use. */
  view(form: object, make: () => Buffer): Buffer {
    this.#views ??= new WeakMap();
    let bytes = this.#views.get(form);
    if (!bytes) {
      const made = make();
      bytes = made.equals(this.wire) ? this.wire : made;
      this.#views.set(form, bytes);
    }
    return bytes;
  }
}

/** Puts the resourceVersion into stored bytes, which begin with apiVersion, kind, metadata. */
export function spliceVersion(stored: Uint8Array, revision: number): Buffer {
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  const at = bytes.indexOf(METADATA);
  if (at < 0) throw new Error('stored object has no metadata');
  const cut = at + METADATA.length;
  const comma = bytes[cut] === 0x7d ? '' : ',';
  const version = `${RESOURCE_VERSION}${revision}"${comma}`;
  const out = Buffer.allocUnsafe(bytes.length + version.length);
  bytes.copy(out, 0, 0, cut);
  out.write(version, cut, 'latin1');
  bytes.copy(out, cut + version.length, cut);
  return out;
}

/** The same bytes at another revision: what a DELETED event shows. */
export function respliceVersion(wire: Buffer, from: number, to: number): Buffer {
  const cut = wire.indexOf(METADATA) + METADATA.length;
  const old = `${RESOURCE_VERSION}${from}"`;
  return Buffer.concat([
    wire.subarray(0, cut),
    Buffer.from(`${RESOURCE_VERSION}${to}"`),
    wire.subarray(cut + old.length),
  ]);
}
