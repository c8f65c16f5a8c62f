import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The messages of the Kubernetes API: which fields they have, under which numbers. */

/** Every body begins with these four bytes. */
export const MAGIC: Buffer = Buffer.from('k8s\u0000', 'latin1');

/** Messages in messages; far above what any API type needs, a schema's levels included. */
export const MAX_DEPTH = 256;

export class ProtobufError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ProtobufError';
  }
}

export type Json = { [member: string]: unknown };

export type Field = {
  /** As in JSON. */
  name: string;
  number: number;
  /** A scalar, or a message by its short name: `core.v1.Pod`. */
  type: string;
  /** `embedded`: the message's members stand in JSON among those of the message around it. */
  shape: 'one' | 'list' | 'map' | 'embedded';
  /** Always on the wire, and left out of JSON when it has its zero value. */
  omitsZero: boolean;
};

export type Message = {
  name: string;
  byNumber: ReadonlyMap<number, Field>;
  /** From the highest number down. */
  descending: readonly Field[];
  /** In JSON a plain list: `repeated string items = 1` is all that it has. */
  isList: boolean;
};

let table: Map<string, string> | undefined;
const compiled = new Map<string, Message>();

function lines(): Map<string, string> {
  if (table) return table;
  const text = readFileSync(join(import.meta.dirname, 'kubernetes-fields.txt'), 'utf8');
  table = new Map();
  for (const line of text.split('\n')) {
    const end = line.indexOf(' ');
    table.set(end < 0 ? line : line.slice(0, end), end < 0 ? '' : line.slice(end + 1));
  }
  return table;
}

/** Short names of all messages. */
export const messageNames = (): string[] => [...lines().keys()].filter((name) => name !== '');

const SHAPES = { '[]': 'list', '{}': 'map', '~': 'embedded' } as const;

/** Lines are taken apart when their message is first met. Throws ProtobufError. */
export function messageOf(name: string): Message {
  const known = compiled.get(name);
  if (known) return known;
  const line = lines().get(name);
  if (line === undefined) throw new ProtobufError(`there is no message ${name}`);
  const fields: Field[] = [];
  for (const part of line.split(' ')) {
    const match = /^([^=?]+)(\??)=(\d+):(\[\]|\{\}|~)?([\w.]+)$/.exec(part);
    if (!match) continue;
    const [, field = '', zero, number = '', mark, type = ''] = match;
    const shape = mark === undefined ? 'one' : SHAPES[mark as keyof typeof SHAPES];
    fields.push({ name: field, number: Number(number), type, shape, omitsZero: zero === '?' });
  }
  const [first] = fields;
  const message: Message = {
    name,
    byNumber: new Map(fields.map((field) => [field.number, field])),
    descending: fields.toSorted((a, b) => b.number - a.number),
    isList: fields.length === 1 && first?.name === 'items' && first.type === 'string',
  };
  compiled.set(name, message);
  return message;
}

/** Groups whose messages we have, and the package that holds them. */
const PACKAGES: ReadonlyMap<string, string> = new Map([
  ['', 'core'],
  ['admission.k8s.io', 'admission'],
  ['admissionregistration.k8s.io', 'admissionregistration'],
  ['apidiscovery.k8s.io', 'apidiscovery'],
  ['apiextensions.k8s.io', 'apiextensions'],
  ['apiregistration.k8s.io', 'apiregistration'],
  ['apps', 'apps'],
  ['authentication.k8s.io', 'authentication'],
  ['authorization.k8s.io', 'authorization'],
  ['autoscaling', 'autoscaling'],
  ['batch', 'batch'],
  ['certificates.k8s.io', 'certificates'],
  ['coordination.k8s.io', 'coordination'],
  ['discovery.k8s.io', 'discovery'],
  ['events.k8s.io', 'events'],
  ['flowcontrol.apiserver.k8s.io', 'flowcontrol'],
  ['meta.k8s.io', 'meta'],
  ['networking.k8s.io', 'networking'],
  ['node.k8s.io', 'node'],
  ['policy', 'policy'],
  ['rbac.authorization.k8s.io', 'rbac'],
  ['resource.k8s.io', 'resource'],
  ['scheduling.k8s.io', 'scheduling'],
  ['storage.k8s.io', 'storage'],
]);

/** Types that every group shares: options of requests, and answers that are no objects. */
const SHARED = /^(\w+Options|Status|WatchEvent|APIGroup|APIGroupList|APIResourceList|APIVersions)$/;

/** The message of a type; undefined for types that have none, such as custom ones and tables. */
export function messageNameOf(apiVersion: string, kind: string): string | undefined {
  const slash = apiVersion.indexOf('/');
  const home = PACKAGES.get(slash < 0 ? '' : apiVersion.slice(0, slash));
  const name = `${home}.${apiVersion.slice(slash + 1)}.${kind}`;
  if (home !== undefined && lines().has(name)) return name;
  const shared = `meta.v1.${kind}`;
  return SHARED.test(kind) && lines().has(shared) ? shared : undefined;
}
