import type { ColumnDefinition } from '#api/apiextensions/definition-types.ts';
import type { JsonPath } from '#api/json-path.ts';
import { JsonPathError, findJsonPath, parseJsonPath } from '#api/json-path.ts';
import type { Column } from '#api/kind.ts';
import { humanAge } from '#api/meta/duration.ts';
import type { KubeObject } from '#api/types.ts';

const AGE: ColumnDefinition = {
  name: 'Age',
  type: 'date',
  jsonPath: '.metadata.creationTimestamp',
};

/**
 * The columns of a definition's tables after the name; the age where it names none.
 * Source: Kubernetes "Additional printer columns".
 */
export function customColumns(definitions: readonly ColumnDefinition[] | undefined): Column[] {
  if (!definitions?.length)
    return [{ ...columnOf(AGE), describedBy: 'V1ObjectMeta.creationTimestamp' }];
  return definitions.map((definition) => ({
    ...columnOf(definition),
    description:
      definition.description ||
      `Custom resource definition column (in JSONPath format): ${definition.jsonPath}`,
  }));
}

function columnOf({ name, type, format, priority, jsonPath }: ColumnDefinition): Column {
  const path = pathOf(jsonPath);
  return {
    name,
    type: type as Column['type'],
    ...(format ? { format } : {}),
    ...(priority === undefined ? {} : { priority }),
    value: (object, now) => (path ? cellOf(path, type, object, now) : null),
  };
}

/** A path that cannot be read leads nowhere. */
function pathOf(text: string): JsonPath | undefined {
  try {
    return parseJsonPath(text);
  } catch (error) {
    if (error instanceof JsonPathError) return undefined;
    throw error;
  }
}

function cellOf(
  path: JsonPath,
  type: string,
  object: KubeObject,
  now: number,
): ReturnType<Column['value']> {
  const [value] = findJsonPath(path, object);
  if (value === undefined || value === null) return null;
  switch (type) {
    case 'string':
      return typeof value === 'string' ? value : JSON.stringify(value);
    case 'integer':
      if (typeof value === 'bigint') return value;
      return typeof value === 'number' ? Math.trunc(value) : null;
    case 'number':
      return typeof value === 'number' || typeof value === 'bigint' ? value : null;
    case 'boolean':
      return typeof value === 'boolean' ? value : null;
    case 'date':
      if (typeof value !== 'string') return null;
      return Number.isNaN(Date.parse(value)) ? '<invalid>' : humanAge(value, now);
    default:
      return null;
  }
}

/** What `fieldSelector` reads of an object, by the field's name. */
export function customFields(
  fields: readonly { jsonPath: string }[] | undefined,
): Record<string, (object: KubeObject) => string> {
  const readers: Record<string, (object: KubeObject) => string> = {};
  for (const { jsonPath } of fields ?? []) {
    const path = pathOf(jsonPath);
    readers[jsonPath.replace(/^\./, '')] = (object) => {
      const value = path && findJsonPath(path, object)[0];
      return value === undefined || value === null ? '' : String(value);
    };
  }
  return readers;
}
