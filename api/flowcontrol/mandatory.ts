import type { FlowSchema, PriorityLevelConfiguration } from '#api/types.ts';

/** Every verb on everything, resources or not. */
const EVERYTHING = {
  resourceRules: [
    {
      verbs: ['*'],
      apiGroups: ['*'],
      resources: ['*'],
      clusterScope: true,
      namespaces: ['*'],
    },
  ],
  nonResourceRules: [{ verbs: ['*'], nonResourceURLs: ['*'] }],
};

/** The rule of these groups' every request. */
export const everythingOf = (...groups: string[]) => ({
  subjects: groups.map((name) => ({ kind: 'Group', group: { name } })),
  ...structuredClone(EVERYTHING),
});

/**
 * What may neither be missing nor differ: requests that nothing else takes, and those of
 * administrators. Source: flowcontrol.apiserver.k8s.io/v1, mandatory configuration objects.
 */
export const mandatoryFlowSchemas: readonly FlowSchema[] = [
  {
    metadata: { name: 'exempt' },
    spec: {
      matchingPrecedence: 1,
      priorityLevelConfiguration: { name: 'exempt' },
      rules: [everythingOf('system:masters')],
    },
  },
  {
    metadata: { name: 'catch-all' },
    spec: {
      matchingPrecedence: 10_000,
      priorityLevelConfiguration: { name: 'catch-all' },
      distinguisherMethod: { type: 'ByUser' },
      rules: [everythingOf('system:unauthenticated', 'system:authenticated')],
    },
  },
];

export const mandatoryPriorityLevels: readonly PriorityLevelConfiguration[] = [
  {
    metadata: { name: 'exempt' },
    spec: { type: 'Exempt', exempt: { nominalConcurrencyShares: 0, lendablePercent: 0 } },
  },
  {
    metadata: { name: 'catch-all' },
    spec: {
      type: 'Limited',
      limited: {
        nominalConcurrencyShares: 5,
        lendablePercent: 0,
        limitResponse: { type: 'Reject' },
      },
    },
  },
];
