import {
  DYN as ANY,
  type CelType,
  listOf,
  mapOf,
  objectType,
  opaque,
  sameType,
} from '#api/cel/types.ts';
import {
  BOOL,
  INT,
  NULL,
  type ObjectType,
  STRING,
  type StructTypes,
  TIMESTAMP,
} from '#api/cel/types.ts';
import { type CelProgram, compileCel, resultType } from '#api/cel/cel.ts';

/**
 * What expressions of policies and match conditions may refer to.
 * Source: Kubernetes "Validating Admission Policy", "Mutating Admission Policy".
 */
export type PolicyScope = {
  /** The policy names a kind of parameters. */
  params: boolean;
  authorizer: boolean;
  /** What is known of the object; default: anything. */
  object?: CelType;
  /** Expressions construct patches: Object{…}, JSONPatch{…}. */
  patches?: boolean;
  /** Types of the policy's variables that came before; null: it has none. */
  variables: Readonly<Record<string, CelType>> | null;
};

const GVK = objectType('kubernetes.GroupVersionKind', {
  group: STRING,
  version: STRING,
  kind: STRING,
});
const GVR = objectType('kubernetes.GroupVersionResource', {
  group: STRING,
  version: STRING,
  resource: STRING,
});

export const requestType: ObjectType = objectType('kubernetes.AdmissionRequest', {
  kind: GVK,
  resource: GVR,
  subResource: STRING,
  requestKind: GVK,
  requestResource: GVR,
  requestSubResource: STRING,
  name: STRING,
  namespace: STRING,
  operation: STRING,
  userInfo: objectType('kubernetes.UserInfo', {
    username: STRING,
    uid: STRING,
    groups: listOf(STRING),
    extra: mapOf(STRING, listOf(STRING)),
  }),
  dryRun: BOOL,
  options: ANY,
});

export const namespaceType: ObjectType = objectType('kubernetes.Namespace', {
  metadata: objectType('kubernetes.NamespaceMetadata', {
    name: STRING,
    generateName: STRING,
    namespace: STRING,
    labels: mapOf(STRING, STRING),
    annotations: mapOf(STRING, STRING),
    UID: STRING,
    creationTimestamp: TIMESTAMP,
    deletionGracePeriodSeconds: INT,
    deletionTimestamp: TIMESTAMP,
    generation: INT,
    resourceVersion: STRING,
    finalizers: listOf(STRING),
  }),
  spec: objectType('kubernetes.NamespaceSpec', { finalizers: listOf(STRING) }),
  status: objectType('kubernetes.NamespaceStatus', { phase: STRING }),
});

export const jsonPatchType: ObjectType = objectType('JSONPatch', {
  op: STRING,
  path: STRING,
  from: STRING,
  value: ANY,
});

const any: CelType = { kind: 'dyn' };

/** `Object` and `Object.spec.template` and so on: every field is there, of any type. */
const patchObjectType = (name: string): ObjectType => ({
  kind: 'object',
  name,
  fields: { get: () => any, keys: () => new Map<string, CelType>().keys() },
});

export const applyType: ObjectType = patchObjectType('Object');

const patchTypes: StructTypes = {
  get(name) {
    if (name === 'JSONPatch') return jsonPatchType;
    return name === 'Object' || name.startsWith('Object.') ? patchObjectType(name) : undefined;
  },
};

function variablesOf(scope: PolicyScope): Record<string, CelType> {
  return {
    object: scope.object ?? any,
    oldObject: scope.object ?? any,
    namespaceObject: namespaceType,
    request: requestType,
    ...(scope.params ? { params: any } : {}),
    ...(scope.authorizer
      ? {
          authorizer: opaque('kubernetes.authorization.Authorizer'),
          'authorizer.requestResource': opaque('kubernetes.authorization.ResourceCheck'),
        }
      : {}),
    ...(scope.variables ? { variables: objectType('kubernetes.variables', scope.variables) } : {}),
  };
}

export type CompiledExpression = { program: CelProgram } | { detail: string };

/** Compiles one expression; `expected` empty: it may give anything. `detail` is upstream's text. */
export function compileExpression(
  source: string,
  scope: PolicyScope,
  expected: readonly CelType[],
): CompiledExpression {
  const compiled = compileCel(source, {
    variables: variablesOf(scope),
    ...(scope.patches ? { structs: patchTypes } : {}),
  });
  if (!compiled.ok) return { detail: `compilation failed: ${compiled.error}` };
  const { program } = compiled;
  if (expected.length === 0 || expected.some((type) => sameType(type, program.type))) {
    return { program };
  }
  const found = resultType(program);
  const names = expected.map((type) => (type === NULL ? 'null_type' : typeText(type)));
  return {
    detail:
      names.length === 1
        ? `must evaluate to ${names[0]} but got ${found}`
        : `must evaluate to one of [${names.join(' ')}] but got ${found}`,
  };
}

function typeText(type: CelType): string {
  if (type.kind === 'list') return `list(${typeText(type.element)})`;
  return 'name' in type ? type.name : type.kind;
}

/** What each kind of expression has to give. */
export const RESULTS = {
  condition: [BOOL],
  message: [STRING],
  annotation: [STRING, NULL],
  jsonPatch: [listOf(jsonPatchType)],
  apply: [applyType],
  variable: [],
} as const satisfies Record<string, readonly CelType[]>;
