import { isKnownFormat } from '#api/apiextensions/custom-formats.ts';
import { anySchema } from '#api/apiextensions/definition-defaults.ts';
import type { CustomResourceDefinition } from '#api/apiextensions/definition-types.ts';
import { itemSchema } from '#api/apiextensions/definition-types.ts';

/** What a definition says that will have no effect; what it said before is not told again. */
export function definitionWarnings(
  object: CustomResourceDefinition,
  old: CustomResourceDefinition | undefined,
): string[] {
  const before = new Set(old ? doubtful(old) : []);
  return doubtful(object).filter((text) => !before.has(text));
}

function doubtful({ spec }: CustomResourceDefinition): string[] {
  const formats: string[] = [];
  const sets = new Set<string>();
  for (const { schema } of spec.versions) {
    if (!schema?.openAPIV3Schema) continue;
    anySchema(schema.openAPIV3Schema, (one) => {
      if (one.format && !isKnownFormat(one.format)) {
        formats.push(`unrecognized format ${JSON.stringify(one.format)}`);
      }
      const type = itemSchema(one)?.type;
      if (one['x-kubernetes-list-type'] === 'set' && (type === 'object' || type === 'array')) {
        sets.add(
          `x-kubernetes-list-type: set for items of type ${JSON.stringify(type)} is not supported by server-side apply or CEL validation rules`,
        );
      }
      return false;
    });
  }
  return [...new Set(formats), ...[...sets].sort()];
}
