import {
  type NamedResource,
  namedResources,
  type TypedKind,
  typeWarnings,
} from '#api/admissionregistration/policy-typecheck.ts';
import type { ValidatingAdmissionPolicy } from '#api/admissionregistration/validating-admission-policy.ts';
import { customKinds } from '#api/apiextensions/custom-kinds.ts';
import type { CustomResourceDefinition } from '#api/apiextensions/definition-types.ts';
import { schemaType } from '#api/cel/schema.ts';
import { apiVersionOf } from '#api/kind.ts';
import { builtinKinds } from '#api/kinds.ts';
import { buildScheme, type Scheme } from '#api/scheme.ts';
import { cacheOf, onSelf, type Plan, runController } from '#client/controller.ts';
import { customResourceDefinitions, validatingAdmissionPolicies } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';

const NAME = 'validatingadmissionpolicy-status-controller';

export type PolicyWorld = {
  policy: ValidatingAdmissionPolicy;
  /** Types of what the policy names, as far as they are known. */
  kinds: readonly TypedKind[];
};

type Checked = ValidatingAdmissionPolicy & { status?: { observedGeneration?: number } };

/** Says in a policy's status what its expressions get wrong, once a generation. Pure. */
export function planPolicy({ policy, kinds }: PolicyWorld): Plan {
  const { generation = 0 } = policy.metadata;
  const { status = {} } = policy as Checked;
  if (generation <= (status.observedGeneration ?? 0) || !policy.spec) return { actions: [] };
  const expressionWarnings = typeWarnings(policy.spec, kinds);
  const typeChecking = expressionWarnings.length > 0 ? { expressionWarnings } : {};
  const object = { ...policy, status: { ...status, observedGeneration: generation, typeChecking } };
  return { actions: [{ type: 'updateStatus', resource: validatingAdmissionPolicies, object }] };
}

/** Types as expressions see them; the built-in ones are read when a policy first needs them. */
function typeReader(definitions: () => readonly CustomResourceDefinition[]) {
  let scheme: Scheme | undefined;
  return ({ group, version, resource }: NamedResource): TypedKind | undefined => {
    scheme ??= buildScheme(builtinKinds);
    const custom = definitions().find(
      ({ spec }) => spec.group === group && spec.names.plural === resource,
    );
    const kind =
      scheme.byResource(group, version, resource) ??
      (custom && customKinds(custom).find((one) => one.version === version));
    if (!kind) return undefined;
    const options = { definitions: scheme.definitions, name: kind.kind };
    const type = schemaType(scheme.schemaOf(kind), options);
    return type ? { apiVersion: apiVersionOf(kind), kind: kind.kind, type } : undefined;
  };
}

/** Type checking of validating policies. Source: ValidatingAdmissionPolicy, "Type checking". */
export const validatingAdmissionPolicyStatusController: ControllerDefinition = {
  name: NAME,
  async run(setup) {
    const policies = setup.informers.of(validatingAdmissionPolicies);
    const definitions = setup.informers.of(customResourceDefinitions);
    const typeOf = typeReader(() => definitions.list());
    await runController<PolicyWorld>(
      {
        name: NAME,
        caches: [
          cacheOf(validatingAdmissionPolicies, policies),
          cacheOf(customResourceDefinitions, definitions),
        ],
        triggers: (add) => onSelf(policies, add),
        observe(key) {
          const policy = policies.get(key);
          if (!policy) return undefined;
          const kinds = namedResources(policy.spec ?? {}).flatMap((named) => typeOf(named) ?? []);
          return { policy, kinds };
        },
        plan: planPolicy,
      },
      { ...setup, recorder: setup.recorderOf(NAME) },
    );
  },
};
