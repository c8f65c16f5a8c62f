import { eachEmbedded, pruneNulls, pruneUnknown } from '#api/apiextensions/custom-values.ts';
import type { SchemaProps } from '#api/apiextensions/definition-types.ts';
import { compile } from '#api/conform-compile.ts';
import type { Conformance } from '#api/conform.ts';
import { Report } from '#api/conform-report.ts';
import { printValue } from '#api/field-error.ts';
import { isPlainObject } from '#api/json.ts';
import type { Definitions } from '#api/schema.ts';

const OBJECT_META = { ref: 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta' };

/**
 * Fits a custom resource to its definition's schema, in place. Only metadata, the object's own and
 * that of embedded resources, is checked for its types here: the rest is validation's business.
 */
export function conformCustom(
  object: unknown,
  schema: SchemaProps,
  definitions: Definitions,
  { normalize, prune }: { normalize: boolean; prune: boolean },
): Conformance {
  if (!isPlainObject(object)) return { unknown: [], typeErrors: [] };
  const unknown: string[] = [];
  const typeErrors: string[] = [];
  const fit = (resource: { [member: string]: unknown }, path: string): void => {
    const given = resource['metadata'];
    if (given === undefined || (path === '' && given === null)) return;
    const shown = path === '' ? '' : printValue(given);
    const report = new Report(normalize, prune);
    const fitted = compile(OBJECT_META, definitions)(given, report);
    if (normalize && fitted !== given) resource['metadata'] = fitted;
    const found = report.result();
    const at = path === '' ? 'metadata' : `${path}.metadata`;
    for (const text of found.unknown) unknown.push(text.replace('"', `"${at}.`));
    const [wrong] = found.typeErrors;
    if (wrong === undefined) return;
    typeErrors.push(path === '' ? wrong : `${at}: Invalid value: ${shown}: ${wrong}`);
  };
  fit(object, '');
  for (const path of pruneUnknown(object, schema, { isRoot: true, remove: prune })) {
    unknown.push(`unknown field "${path}"`);
  }
  if (normalize) pruneNulls(object, schema);
  eachEmbedded(object, schema, (resource, path) => {
    for (const field of ['apiVersion', 'kind'] as const) {
      const value = resource[field];
      if (value === undefined || typeof value === 'string') continue;
      typeErrors.push(`${path}.${field}: Invalid value: ${printValue(value)}: must be a string`);
    }
    fit(resource, path);
  });
  return { unknown, typeErrors };
}
