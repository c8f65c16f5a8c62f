import { intersection, pathsOf } from '#api/field-set.ts';
import type { FieldSet, MaybeFields } from '#api/field-set.ts';
import type { Owner } from '#api/managed-fields.ts';
import { failure } from '#api/status.ts';

/** Fields that an apply would change and that another manager owns. */
export type Conflict = { owner: Owner; fields: FieldSet };

export function conflictsOf(others: readonly Owner[], changed: MaybeFields): Conflict[] {
  const conflicts: Conflict[] = [];
  for (const owner of others) {
    const fields = intersection(owner.fields, changed);
    if (fields) conflicts.push({ owner, fields });
  }
  return conflicts;
}

/** `"editor" with subresource "status" using v1`; appliers are known without their version. */
function ownerText({ manager, operation, apiVersion, subresource }: Owner): string {
  let text = JSON.stringify(manager);
  if (subresource) text += ` with subresource ${JSON.stringify(subresource)}`;
  if (operation === 'Update') text += ` using ${apiVersion}`;
  return text;
}

/** 409 in upstream's words, with one cause per field. */
export function conflictsError(conflicts: readonly Conflict[]): Error {
  const groups = new Map<string, string[]>();
  for (const { owner, fields } of conflicts) {
    const text = ownerText(owner);
    groups.set(text, [...(groups.get(text) ?? []), ...pathsOf(fields)]);
  }
  const sorted = [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
  const causes = sorted.flatMap(([owner, paths]) =>
    paths.map((path) => ({
      reason: 'FieldManagerConflict',
      message: `conflict with ${owner}`,
      field: path,
    })),
  );
  const [only] = causes;
  const text =
    causes.length === 1
      ? `${only?.message}: ${only?.field}`
      : sorted
          .map(
            ([owner, paths]) =>
              `conflicts with ${owner}:\n${paths.map((p) => `- ${p}`).join('\n')}`,
          )
          .join('\n');
  const count = causes.length === 1 ? '1 conflict' : `${causes.length} conflicts`;
  return failure(409, 'Conflict', `Apply failed with ${count}: ${text}`, { causes });
}
