import type { Check, Node } from '#api/conform-compile.ts';
import type { Report } from '#api/conform-report.ts';
import { isPlainObject } from '#api/json.ts';
import { QuantityError, canonicalQuantity } from '#api/quantity.ts';
import type { Schema } from '#api/schema.ts';
import { TimeError, canonicalMicroTime, canonicalTime } from '#api/time.ts';
import { isInteger } from '#base/exact-json.ts';

/** The checks of everything that is not an object with named members. */

export function arrayOf(item: Node): Node {
  const goType = `[]${item.goType}`;
  const check: Check = (value, report) => {
    if (value === null) return undefined;
    if (!Array.isArray(value)) {
      report.mismatch(value, goType);
      return value;
    }
    const items = value as unknown[];
    for (let i = 0; i < items.length; i++) {
      const before = items[i];
      const count = report.count;
      let after = item.check(before, report);
      if (report.count !== count) report.inItem(count, `[${i}]`);
      if (!report.normalize) continue;
      if (after === undefined) after = item.check(item.zero(), report);
      if (after !== before) items[i] = after;
    }
    return value;
  };
  return { check, goType, zero: () => [] };
}

export function mapOf(item: Node): Node {
  const goType = `map[string]${item.goType}`;
  const check: Check = (value, report) => {
    if (value === null) return undefined;
    if (!isPlainObject(value)) {
      report.mismatch(value, goType);
      return value;
    }
    for (const key in value) {
      const before = value[key];
      const count = report.count;
      let after = item.check(before, report);
      if (report.count !== count) report.inItem(count, key);
      if (!report.normalize || after === before) continue;
      if (after === undefined) after = item.zero();
      value[key] = after;
    }
    return value;
  };
  return { check, goType, zero: () => ({}) };
}

const INT32 = 2 ** 31;
const INT64 = 2 ** 63;

/** A string, number or boolean by its OpenAPI type and format. */
export function scalarOf(schema: Schema): Node {
  if (schema.type === 'string') {
    return schema.format === 'byte' ? base64 : text;
  }
  if (schema.type === 'boolean') return boolean;
  if (schema.type === 'integer') return schema.format === 'int32' ? int32 : int64;
  return double;
}

const text: Node = {
  goType: 'string',
  zero: () => '',
  check: (value, report) => {
    if (typeof value === 'string') return value;
    if (value === null) return undefined;
    report.mismatch(value, 'string');
    return value;
  },
};

const boolean: Node = {
  goType: 'bool',
  zero: () => false,
  check: (value, report) => {
    if (typeof value === 'boolean') return value;
    if (value === null) return undefined;
    report.mismatch(value, 'bool');
    return value;
  },
};

const integer = (goType: string, limit: number): Node => ({
  goType,
  zero: () => 0,
  check: (value, report) => {
    if (isInteger(value) && value < limit && value >= -limit) return value;
    if (value === null) return undefined;
    report.mismatch(value, goType);
    return value;
  },
});
const int32 = integer('int32', INT32);
const int64 = integer('int64', INT64);

const double: Node = {
  goType: 'float64',
  zero: () => 0,
  check: (value, report) => {
    if (typeof value === 'number') return value;
    if (typeof value === 'bigint') return Number(value);
    if (value === null) return undefined;
    report.mismatch(value, 'float64');
    return value;
  },
};

const base64: Node = {
  goType: '[]uint8',
  zero: () => '',
  check: (value, report) => {
    if (value === null) return undefined;
    if (typeof value !== 'string') {
      report.mismatch(value, '[]uint8');
      return value;
    }
    const wrong = wrongBase64(value);
    if (wrong >= 0) report.refuse(`illegal base64 data at input byte ${wrong}`);
    return report.normalize && /[\r\n]/.test(value) ? value.replaceAll(/[\r\n]/g, '') : value;
  },
};

/** Place of the first character that standard base64 does not allow there, or -1. */
function wrongBase64(value: string): number {
  if (value.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(value)) return -1;
  let digits = 0;
  for (let i = 0; i < value.length; i++) {
    const char = value[i] ?? '';
    if (char === '\n' || char === '\r') continue;
    if (/[A-Za-z0-9+/]/.test(char)) {
      digits++;
      continue;
    }
    if (char !== '=' || digits % 4 < 2) return i;
    const rest = value.slice(i).replaceAll(/[\r\n]/g, '');
    const padding = '='.repeat(4 - (digits % 4));
    return rest === padding ? -1 : i + Math.min(rest.length, padding.length);
  }
  return digits % 4 === 0 ? -1 : value.length - (digits % 4);
}

const guarded =
  (goType: string, read: (value: string) => string): Check =>
  (value, report) => {
    if (value === null) return undefined;
    if (typeof value !== 'string') {
      report.mismatch(value, goType);
      return value;
    }
    return attempt(() => read(value), value, report);
  };

function attempt(read: () => string, value: unknown, report: Report): unknown {
  try {
    const result = read();
    return report.normalize ? result : value;
  } catch (error) {
    if (!(error instanceof QuantityError) && !(error instanceof TimeError)) throw error;
    report.refuse(error.message);
    return value;
  }
}

const quantity: Check = (value, report) => {
  if (value === null) return undefined;
  if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'bigint') {
    report.refuse(
      "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
    return value;
  }
  return attempt(() => canonicalQuantity(String(value).trim()), value, report);
};

const intOrString: Check = (value, report) => {
  if (typeof value === 'string') return value;
  if (value === null) return undefined;
  return int32.check(value, report);
};

const rawObject: Check = (value, report) => {
  if (value === null) return undefined;
  if (!isPlainObject(value)) report.mismatch(value, 'runtime.RawExtension');
  return value;
};

const anyJson: Check = (value) => value;

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1';
const EXTENSIONS = 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1';

const SPECIAL: ReadonlyMap<string, Node> = new Map<string, Node>([
  [
    'io.k8s.apimachinery.pkg.api.resource.Quantity',
    { check: quantity, goType: 'resource.Quantity', zero: () => '0' },
  ],
  [
    'io.k8s.apimachinery.pkg.util.intstr.IntOrString',
    { check: intOrString, goType: 'intstr.IntOrString', zero: () => 0 },
  ],
  [
    `${META}.Time`,
    { check: guarded('v1.Time', canonicalTime), goType: 'v1.Time', zero: () => null },
  ],
  [
    `${META}.MicroTime`,
    {
      check: guarded('v1.MicroTime', canonicalMicroTime),
      goType: 'v1.MicroTime',
      zero: () => null,
    },
  ],
  [
    'io.k8s.apimachinery.pkg.runtime.RawExtension',
    { check: rawObject, goType: 'runtime.RawExtension', zero: () => null },
  ],
  [`${META}.FieldsV1`, { check: rawObject, goType: 'v1.FieldsV1', zero: () => ({}) }],
  [`${META}.Patch`, { check: anyJson, goType: 'v1.Patch', zero: () => ({}) }],
  ...[
    'JSON',
    'JSONSchemaPropsOrArray',
    'JSONSchemaPropsOrBool',
    'JSONSchemaPropsOrStringArray',
  ].map((name): [string, Node] => [
    `${EXTENSIONS}.${name}`,
    { check: anyJson, goType: `v1.${name}`, zero: () => null },
  ]),
]);

/** Types with a JSON form of their own. */
export const specialOf = (definition: string): Node | undefined => SPECIAL.get(definition);
