import { conversionCaProblem } from '#api/apiextensions/conversion-ca.ts';
import { setCondition } from '#api/apiextensions/definition-defaults.ts';
import type {
  CustomResourceDefinition,
  DefinitionCondition,
  DefinitionNames,
} from '#api/apiextensions/definition-types.ts';
import { isTrue } from '#api/apiextensions/definition-types.ts';
import { approvalOf } from '#api/apiextensions/definition-approval.ts';
import { cloneJson, equalJson } from '#api/json.ts';

/**
 * What the server finds out about a definition by itself: which of its names it got, and whether
 * it is served. `others` are all definitions. Null: the status says it already.
 * Source: Kubernetes "CustomResourceDefinition status", conditions.
 */
export function planDefinitionStatus(
  definition: CustomResourceDefinition,
  others: readonly CustomResourceDefinition[],
  now: string,
): CustomResourceDefinition | null {
  const planned = cloneJson(definition);
  const status = (planned.status ??= {});
  const names = acceptNames(definition, others);
  status.acceptedNames = names.accepted;
  setCondition(planned, now, names.condition);
  if (!isTrue(definition, 'Established')) {
    setCondition(
      planned,
      now,
      conversionCaProblem(definition)
        ? UNTRUSTED
        : establishment(names.condition.status === 'True'),
    );
  }
  const approval = approvalOf(definition);
  if (approval) {
    setCondition(planned, now, {
      type: 'KubernetesAPIApprovalPolicyConformant',
      status: approval.state === 'approved' ? 'True' : 'False',
      reason: APPROVAL_REASONS[approval.state],
      message: approval.message,
    });
  }
  return equalJson(planned.status, definition.status) ? null : planned;
}

const APPROVAL_REASONS = {
  invalid: 'InvalidAnnotation',
  missing: 'MissingAnnotation',
  approved: 'ApprovedAnnotation',
  bypassed: 'UnapprovedAnnotation',
} as const;

const UNTRUSTED: DefinitionCondition = {
  type: 'Established',
  status: 'False',
  reason: 'InvalidCABundle',
  message: 'The conversion webhook CABundle is invalid',
};

const establishment = (accepted: boolean): DefinitionCondition =>
  accepted
    ? {
        type: 'Established',
        status: 'True',
        reason: 'InitialNamesAccepted',
        message: 'the initial names have been accepted',
      }
    : {
        type: 'Established',
        status: 'False',
        reason: 'NotAccepted',
        message: 'not all names are accepted',
      };

type Acceptance = { accepted: DefinitionNames; condition: DefinitionCondition };

/** Names that others of the group have are not given again; one's own stay one's own. */
function acceptNames(
  { metadata, spec, status }: CustomResourceDefinition,
  others: readonly CustomResourceDefinition[],
): Acceptance {
  const wanted = spec.names;
  const has: DefinitionNames = status?.acceptedNames ?? { plural: '', kind: '' };
  const taken = takenNames(spec.group, metadata.name ?? '', others);
  const accepted: DefinitionNames = { ...has };
  let conflict: { reason: string; message: string } | undefined;
  const give = (field: 'plural' | 'singular' | 'kind' | 'listKind', reason: string): void => {
    const name = wanted[field] ?? '';
    const used = field === 'plural' || field === 'singular' ? taken.resources : taken.kinds;
    if (name !== (has[field] ?? '') && used.has(name)) {
      conflict = { reason, message: `${JSON.stringify(name)} is already in use` };
    } else if (name === '') delete accepted[field];
    else accepted[field] = name;
  };
  give('plural', 'PluralConflict');
  give('singular', 'SingularConflict');
  const clashes = (wanted.shortNames ?? []).filter(
    (name) => !has.shortNames?.includes(name) && taken.resources.has(name),
  );
  if (clashes.length > 0) {
    const texts = clashes.map((name) => `${JSON.stringify(name)} is already in use`);
    const message = texts.length === 1 ? (texts[0] ?? '') : `[${texts.join(', ')}]`;
    conflict = { reason: 'ShortNamesConflict', message };
  } else if (wanted.shortNames) accepted.shortNames = wanted.shortNames;
  else delete accepted.shortNames;
  give('kind', 'KindConflict');
  give('listKind', 'ListKindConflict');
  if (wanted.categories) accepted.categories = wanted.categories;
  else delete accepted.categories;
  accepted.plural ??= '';
  accepted.kind ??= '';
  const condition: DefinitionCondition = conflict
    ? { type: 'NamesAccepted', status: 'False', ...conflict }
    : {
        type: 'NamesAccepted',
        status: 'True',
        reason: 'NoConflicts',
        message: 'no conflicts found',
      };
  return { accepted, condition };
}

function takenNames(
  group: string,
  self: string,
  others: readonly CustomResourceDefinition[],
): { resources: Set<string>; kinds: Set<string> } {
  const resources = new Set<string>();
  const kinds = new Set<string>();
  for (const { metadata, spec, status } of others) {
    const names = status?.acceptedNames;
    if (spec.group !== group || metadata.name === self || !names) continue;
    for (const name of [names.plural, names.singular, ...(names.shortNames ?? [])]) {
      if (name) resources.add(name);
    }
    for (const name of [names.kind, names.listKind]) if (name) kinds.add(name);
  }
  return { resources, kinds };
}
