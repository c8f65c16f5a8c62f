import type { Json } from '#apiserver/openapi-schema.ts';

/**
 * OpenAPI 2.0 in the binary form that kubectl asks `/openapi/v2` for. The form is generic: each
 * message below lists its members with their field numbers, and the document is walked by it.
 * Source: github.com/google/gnostic openapiv2/OpenAPIv2.proto (field numbers).
 */

/** How one member is written. Members that no rule names are vendor extensions, or left out. */
type Rule =
  | { type: 'text' | 'bool' | 'int' | 'double' | 'any'; field: number; repeated?: boolean }
  | { type: 'message'; field: number; message: () => Message; repeated?: boolean }
  /** An object whose members become a list of named values. */
  | { type: 'named'; field: number; list: number; message: () => Message };

type Message = {
  members: Readonly<Record<string, Rule>>;
  /** Field of `repeated NamedAny vendor_extension`. */
  extensions?: number;
  /** Wraps the message that its value decides on: field number of the one-of. */
  choose?: (value: Json) => { field: number; message: () => Message };
};

const text = (field: number): Rule => ({ type: 'text', field });
const texts = (field: number): Rule => ({ type: 'text', field, repeated: true });
const bool = (field: number): Rule => ({ type: 'bool', field });
const int = (field: number): Rule => ({ type: 'int', field });
const double = (field: number): Rule => ({ type: 'double', field });

const SCHEMA: Message = {
  extensions: 31,
  members: {
    $ref: text(1),
    format: text(2),
    title: text(3),
    description: text(4),
    default: { type: 'any', field: 5 },
    multipleOf: double(6),
    maximum: double(7),
    exclusiveMaximum: bool(8),
    minimum: double(9),
    exclusiveMinimum: bool(10),
    maxLength: int(11),
    minLength: int(12),
    pattern: text(13),
    maxItems: int(14),
    minItems: int(15),
    uniqueItems: bool(16),
    maxProperties: int(17),
    minProperties: int(18),
    required: texts(19),
    enum: { type: 'any', field: 20, repeated: true },
    additionalProperties: { type: 'message', field: 21, message: () => wrapper(1, SCHEMA) },
    items: { type: 'message', field: 23, message: () => wrapper(1, SCHEMA) },
    allOf: { type: 'message', field: 24, message: () => SCHEMA, repeated: true },
    properties: { type: 'named', field: 25, list: 1, message: () => SCHEMA },
  },
};

/** A message with the value as its only member. */
const wrapper = (field: number, message: Message): Message => ({
  members: {},
  choose: () => ({ field, message: () => message }),
});

const BODY: Message = {
  members: {
    description: text(1),
    name: text(2),
    in: text(3),
    required: bool(4),
    schema: { type: 'message', field: 5, message: () => SCHEMA },
  },
};
const QUERY: Message = {
  members: {
    required: bool(1),
    in: text(2),
    description: text(3),
    name: text(4),
    type: text(6),
    format: text(7),
    uniqueItems: bool(20),
  },
};
const PATH: Message = {
  members: {
    required: bool(1),
    in: text(2),
    description: text(3),
    name: text(4),
    type: text(5),
    format: text(6),
    uniqueItems: bool(19),
  },
};
const NON_BODY: Message = {
  members: {},
  choose: (value) =>
    value['in'] === 'path' ? { field: 4, message: () => PATH } : { field: 3, message: () => QUERY },
};
const PARAMETER: Message = {
  members: {},
  choose: (value) =>
    value['in'] === 'body'
      ? { field: 1, message: () => BODY }
      : { field: 2, message: () => NON_BODY },
};
const PARAMETERS_ITEM = wrapper(1, PARAMETER);

const RESPONSE: Message = {
  members: {
    description: text(1),
    schema: { type: 'message', field: 2, message: () => wrapper(1, SCHEMA) },
  },
};

const OPERATION: Message = {
  extensions: 13,
  members: {
    tags: texts(1),
    summary: text(2),
    description: text(3),
    operationId: text(5),
    produces: texts(6),
    consumes: texts(7),
    parameters: { type: 'message', field: 8, message: () => PARAMETERS_ITEM, repeated: true },
    responses: { type: 'named', field: 9, list: 1, message: () => wrapper(1, RESPONSE) },
  },
};

const operation = (field: number): Rule => ({ type: 'message', field, message: () => OPERATION });

const PATH_ITEM: Message = {
  members: {
    get: operation(2),
    put: operation(3),
    post: operation(4),
    delete: operation(5),
    options: operation(6),
    head: operation(7),
    patch: operation(8),
    parameters: { type: 'message', field: 9, message: () => PARAMETERS_ITEM, repeated: true },
  },
};

const INFO: Message = { members: { title: text(1), version: text(2), description: text(3) } };

const DOCUMENT: Message = {
  members: {
    swagger: text(1),
    info: { type: 'message', field: 2, message: () => INFO },
    paths: { type: 'named', field: 8, list: 2, message: () => PATH_ITEM },
    definitions: { type: 'named', field: 9, list: 1, message: () => SCHEMA },
  },
};

/** A JSON document of OpenAPI 2.0 → bytes of gnostic's openapi.v2.Document. */
export function encodeOpenApi2(document: Json): Uint8Array {
  return Buffer.concat(messageParts(document, DOCUMENT));
}

type Parts = Buffer[];

function messageParts(value: Json, message: Message): Parts {
  const chosen = message.choose?.(value);
  if (chosen) return [block(chosen.field, messageParts(value, chosen.message()))];
  const parts: Parts = [];
  for (const [name, member] of Object.entries(value)) {
    if (member === undefined) continue;
    const rule = message.members[name];
    if (rule) parts.push(...memberParts(member, rule));
    else if (message.extensions && name.startsWith('x-')) {
      parts.push(block(message.extensions, [textField(1, name), block(2, anyParts(member))]));
    }
  }
  // A schema's type is a message of its own with a list of texts.
  if (message === SCHEMA && typeof value['type'] === 'string') {
    parts.push(block(22, [textField(1, value['type'])]));
  }
  return parts;
}

function memberParts(member: unknown, rule: Rule): Parts {
  if (rule.type === 'named') {
    const named = Object.entries(member as Record<string, Json>).map(([name, value]) =>
      block(rule.list, [textField(1, name), block(2, messageParts(value, rule.message()))]),
    );
    return [block(rule.field, named)];
  }
  const values = rule.repeated ? (member as unknown[]) : [member];
  return values.map((value) => {
    switch (rule.type) {
      case 'text':
        return textField(rule.field, String(value));
      case 'bool':
        return Buffer.concat([tag(rule.field, 0), varint(value ? 1 : 0)]);
      case 'int':
        return Buffer.concat([tag(rule.field, 0), varint(Number(value))]);
      case 'double': {
        const bytes = Buffer.alloc(8);
        bytes.writeDoubleLE(Number(value));
        return Buffer.concat([tag(rule.field, 1), bytes]);
      }
      case 'any':
        return block(rule.field, anyParts(value));
      case 'message':
        return block(rule.field, messageParts(value as Json, rule.message()));
    }
  });
}

/** Free values travel as YAML, of which JSON is a part. */
const anyParts = (value: unknown): Parts => [textField(2, `${JSON.stringify(value)}\n`)];

const textField = (field: number, value: string): Buffer => block(field, [Buffer.from(value)]);

function block(field: number, parts: Parts): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([tag(field, 2), varint(length), ...parts]);
}

const tag = (field: number, wireType: number): Buffer => varint(field * 8 + wireType);

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 127) {
    bytes.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}
