import {
  atomicList,
  emptyText,
  mergeMap,
  rulesOf,
  setList,
  struct,
  zero,
} from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of flowcontrol lack (flowcontrol): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const flowcontrolRules: FieldRules = rulesOf({
  FlowcontrolV1Subject: { kind: emptyText },
  V1FlowDistinguisherMethod: { type: emptyText },
  V1FlowSchema: { spec: struct, status: struct },
  V1FlowSchemaSpec: {
    matchingPrecedence: zero,
    priorityLevelConfiguration: struct,
    rules: atomicList,
  },
  V1FlowSchemaStatus: { conditions: mergeMap('type') },
  V1GroupSubject: { name: emptyText },
  V1LimitResponse: { type: emptyText },
  V1LimitedPriorityLevelConfiguration: { limitResponse: struct },
  V1NonResourcePolicyRule: { nonResourceURLs: setList, verbs: setList },
  V1PolicyRulesWithSubjects: {
    nonResourceRules: atomicList,
    resourceRules: atomicList,
    subjects: atomicList,
  },
  V1PriorityLevelConfiguration: { spec: struct, status: struct },
  V1PriorityLevelConfigurationReference: { name: emptyText },
  V1PriorityLevelConfigurationSpec: { type: emptyText },
  V1PriorityLevelConfigurationStatus: { conditions: mergeMap('type') },
  V1QueuingConfiguration: { handSize: zero, queueLengthLimit: zero, queues: zero },
  V1ResourcePolicyRule: {
    apiGroups: setList,
    namespaces: setList,
    resources: setList,
    verbs: setList,
  },
  V1ServiceAccountSubject: { name: emptyText, namespace: emptyText },
  V1UserSubject: { name: emptyText },
});
