import type { SchemaProps } from '#api/apiextensions/definition-types.ts';
import { valueSchema } from '#api/apiextensions/definition-types.ts';

/** A field that a path names: how errors write it, and its schema where it has one. */
export type FoundField = { path: string; schema: SchemaProps | undefined } | { wrong: string };

const ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  "'": "'",
  '\\': '\\',
};

/** `.`, `[`, `]`, quoted texts and what stands between. */
const TOKEN = /'(?:\\.|[^'\\])*'|[.[\]]|[^.[\]]+/gy;

/**
 * Follows `.spec.replicas` or `.spec['a-b']` through a schema.
 * Source: apiextensions.k8s.io/v1 ValidationRule.fieldPath, SelectableField.jsonPath.
 */
export function fieldAt(
  text: string,
  root: SchemaProps,
  { brackets = true }: { brackets?: boolean } = {},
): FoundField {
  const tokens = text.match(TOKEN) ?? [];
  let schema: SchemaProps | undefined = root;
  let path = '';
  for (let i = 0; i < tokens.length; ) {
    const token = tokens[i++];
    let name: string;
    if (token === '.') {
      if (i >= tokens.length) return { wrong: 'unexpected end of JSON path' };
      name = tokens[i++] ?? '';
    } else if (token === '[') {
      if (!brackets) return { wrong: 'array notation is not allowed' };
      const quoted = tokens[i++];
      if (quoted === undefined) return { wrong: 'unexpected end of JSON path' };
      if (!/^'[\s\S]*'$/.test(quoted) || quoted.length < 2) {
        return { wrong: `expected single quoted string but got ${quoted}` };
      }
      name = quoted.slice(1, -1).replace(/\\(.)/g, (_, char: string) => ESCAPES[char] ?? char);
      const end = tokens[i++];
      if (end === undefined) return { wrong: 'unexpected end of JSON path' };
      if (end !== ']') return { wrong: `expected ] but got ${end}` };
    } else return { wrong: `expected [ or . but got: ${token}` };
    if (!schema) return { wrong: 'does not refer to a valid field' };
    if (schema.properties) {
      const inner: SchemaProps | undefined = Object.hasOwn(schema.properties, name)
        ? schema.properties[name]
        : undefined;
      if (!inner) return { wrong: 'does not refer to a valid field' };
      path = path === '' ? name : `${path}.${name}`;
      schema = inner;
    } else if (schema.additionalProperties !== undefined) {
      path = `${path}[${name}]`;
      schema = valueSchema(schema);
    } else return { wrong: 'does not refer to a valid field' };
  }
  return { path, schema };
}
