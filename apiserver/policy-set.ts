import type {
  BindingSpec,
  ParamRef,
  PolicySpec,
} from '#api/admissionregistration/policy-validate.ts';
import type { Kind } from '#api/kind.ts';
import { compileLabelSelector } from '#api/labels.ts';
import type { KubeObject } from '#api/types.ts';
import type { AdmissionContext, AdmissionRequest } from '#apiserver/admission-rule.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import { asKind } from '#apiserver/match-rules.ts';

const GROUP = 'admissionregistration.k8s.io';

export type Policy<Spec extends PolicySpec, Program> = {
  name: string;
  spec: Spec;
  program: Program;
  bindings: readonly Binding[];
};

export type Binding = { name: string; spec: BindingSpec & { validationActions?: string[] } };

type Found<T> = { generations: readonly number[]; value: T };

/**
 * Something derived from the objects of some resources, made anew when one of them changes: asking
 * costs a comparison.
 */
export function derived<T>(
  resources: readonly string[],
  make: (reader: ObjectReader) => T,
): (reader: ObjectReader) => T {
  const found = new WeakMap<ObjectReader, Found<T>>();
  return (reader) => {
    const known = found.get(reader);
    const isFresh = (resource: string, i: number): boolean =>
      known?.generations[i] === reader.generation(GROUP, resource);
    if (known && resources.every(isFresh)) return known.value;
    const generations = resources.map((resource) => reader.generation(GROUP, resource));
    const value = make(reader);
    found.set(reader, { generations, value });
    return value;
  };
}

const byName = (a: KubeObject, b: KubeObject): number =>
  (a.metadata.name ?? '') < (b.metadata.name ?? '') ? -1 : 1;

export const sortedObjects = (reader: ObjectReader, resource: string): KubeObject[] =>
  [...reader.list(GROUP, resource)].sort(byName);

/** Policies that have a binding, compiled, in the order of their names. */
export function boundPolicies<Spec extends PolicySpec, Program>(
  family: 'validating' | 'mutating',
  compile: (spec: Spec) => Program,
): (reader: ObjectReader) => readonly Policy<Spec, Program>[] {
  const policies = `${family}admissionpolicies`;
  const bindings = `${family}admissionpolicybindings`;
  const programs = new WeakMap<KubeObject, Program>();
  return derived([policies, bindings], (reader) => {
    const all = sortedObjects(reader, bindings).map((object) => ({
      name: object.metadata.name ?? '',
      spec: (object['spec'] ?? {}) as Binding['spec'],
    }));
    return sortedObjects(reader, policies).flatMap((object) => {
      const name = object.metadata.name ?? '';
      const own = all.filter((binding) => binding.spec.policyName === name);
      if (own.length === 0) return [];
      const spec = (object['spec'] ?? {}) as Spec;
      const program = programs.get(object) ?? compile(spec);
      programs.set(object, program);
      return [{ name, spec, program, bindings: own }];
    });
  });
}

/** The kind of a policy's parameters; null: it has none; text: why it cannot be used. */
export function paramKindOf(spec: PolicySpec, { scheme }: AdmissionContext): Kind | null | string {
  const { paramKind } = spec;
  if (!paramKind) return null;
  const { apiVersion = '', kind = '' } = paramKind;
  const slash = apiVersion.indexOf('/');
  const group = slash < 0 ? '' : apiVersion.slice(0, slash);
  const found = scheme.byKind(group, apiVersion.slice(slash + 1), kind);
  return found ?? `failed to find resource referenced by paramKind: '${apiVersion}, Kind=${kind}'`;
}

/** Parameters of a binding, one evaluation each; null stands for none. Text: why there are none. */
export function collectParams(
  kind: Kind | null,
  ref: ParamRef | undefined,
  request: AdmissionRequest,
  { reader }: AdmissionContext,
): readonly (KubeObject | null)[] | string {
  if (!kind || !ref) return [null];
  let namespace: string | undefined;
  if (kind.scope === 'Namespaced') {
    namespace = ref.namespace || request.namespace;
    if (!namespace) {
      return 'cannot use namespaced paramRef in policy binding that matches cluster-scoped resources';
    }
  } else if (ref.namespace) {
    return 'paramRef.namespace must not be provided for a cluster-scoped `paramKind`';
  }
  const found = findParams(kind, ref, namespace, reader);
  if (found.length === 0 && ref.parameterNotFoundAction === 'Deny') {
    return 'no params found for policy binding with `Deny` parameterNotFoundAction';
  }
  return found;
}

function findParams(
  kind: Kind,
  ref: ParamRef,
  namespace: string | undefined,
  reader: ObjectReader,
): readonly KubeObject[] {
  const home = kind.storedAs ? kind.storedAs.kind() : kind;
  const view = (object: KubeObject): KubeObject => asKind(object, home, kind) ?? object;
  if (ref.name) {
    const one = reader.get(home.group, home.plural, { namespace, name: ref.name });
    return one ? [view(one)] : [];
  }
  const matcher = compileLabelSelector(ref.selector ?? {});
  return reader
    .list(home.group, home.plural, namespace)
    .filter((object) => matcher.matches(object.metadata.labels ?? {}))
    .map(view);
}
