import { compile } from '#api/conform-compile.ts';
import { conformCustom } from '#api/conform-custom.ts';
import { Report } from '#api/conform-report.ts';
import type { Definitions, Schema } from '#api/schema.ts';

/**
 * What an object breaks of its schema. `unknown` are texts like `unknown field "spec.foo"` in the
 * order of the text; `typeErrors` say what cannot be decoded, the first one is what clients get.
 */
export type Conformance = { unknown: string[]; typeErrors: string[] };

export type ConformOptions = {
  /**
   * Default true: drops nulls and empty optional members, brings quantities and times into canonical
   * form and writes the members that are always there, all as upstream's decoder and encoder would.
   * False only looks: nothing but unknown fields is touched.
   */
  normalize?: boolean;
  /** Default true: unknown fields are removed. */
  prune?: boolean;
  /** Words of type errors: of the JSON decoder (default), or of what reads strategic patches. */
  words?: 'json' | 'restore';
};

/**
 * Fits `object` to its schema, in place, and tells what did not fit. Schemas are compiled on first
 * use and kept with their definitions. Source: Kubernetes "Field validation", json tags of k8s.io/api.
 */
export function conform(
  object: unknown,
  schema: Schema,
  definitions: Definitions,
  { normalize = true, prune = true, words = 'json' }: ConformOptions = {},
): Conformance {
  if (schema.custom) return conformCustom(object, schema.custom, definitions, { normalize, prune });
  const report = new Report(normalize, prune, words === 'restore');
  const check = compile(schema, definitions);
  check(object, report);
  return report.result();
}
