import {
  everythingOf,
  mandatoryFlowSchemas,
  mandatoryPriorityLevels,
} from '#api/flowcontrol/mandatory.ts';
import { equalJson } from '#api/json.ts';
import { isStatusError } from '#api/status.ts';
import type {
  FlowSchema,
  FlowSubject,
  KubeObject,
  PriorityLevelConfiguration,
} from '#api/types.ts';
import {
  type BootstrapContext,
  kindOf,
  runBounded,
  writeAsServer,
} from '#apiserver/bootstrap-context.ts';
import { FLOW_GROUP } from '#apiserver/fairness-start.ts';

/** `true` on objects whose spec follows this program; users who change it to `false` keep theirs. */
const AUTO_UPDATE = 'apf.kubernetes.io/autoupdate-spec';
const PRODUCER = 'api-priority-and-fairness-config-producer-v1';

const user = (name: string): FlowSubject => ({ kind: 'User', user: { name } });
const group = (name: string): FlowSubject => ({ kind: 'Group', group: { name } });
const systemAccounts: FlowSubject = {
  kind: 'ServiceAccount',
  serviceAccount: { namespace: 'kube-system', name: '*' },
};
const everyone = [group('system:unauthenticated'), group('system:authenticated')];
const everything = everythingOf();

const schema = (
  name: string,
  level: string,
  matchingPrecedence: number,
  method: 'ByUser' | 'ByNamespace' | '',
  rule: NonNullable<NonNullable<FlowSchema['spec']>['rules']>[number],
): FlowSchema => ({
  metadata: { name },
  spec: {
    matchingPrecedence,
    priorityLevelConfiguration: { name: level },
    ...(method ? { distinguisherMethod: { type: method } } : {}),
    rules: [rule],
  },
});

/** What tells an ordinary cluster's clients apart. Source: upstream's suggested configuration. */
export const suggestedFlowSchemas: readonly FlowSchema[] = [
  schema('probes', 'exempt', 2, '', {
    subjects: everyone,
    nonResourceRules: [{ verbs: ['get'], nonResourceURLs: ['/healthz', '/readyz', '/livez'] }],
  }),
  schema('system-leader-election', 'leader-election', 100, 'ByUser', {
    subjects: [
      user('system:kube-controller-manager'),
      user('system:kube-scheduler'),
      systemAccounts,
    ],
    resourceRules: [
      {
        verbs: ['get', 'create', 'update'],
        apiGroups: ['coordination.k8s.io'],
        resources: ['leases'],
        namespaces: ['*'],
      },
    ],
  }),
  schema('system-node-high', 'node-high', 400, 'ByUser', {
    subjects: [group('system:nodes')],
    resourceRules: [
      {
        verbs: ['*'],
        apiGroups: [''],
        resources: ['nodes', 'nodes/status'],
        clusterScope: true,
        namespaces: ['*'],
      },
      {
        verbs: ['*'],
        apiGroups: ['coordination.k8s.io'],
        resources: ['leases'],
        namespaces: ['*'],
      },
    ],
  }),
  schema('system-nodes', 'system', 500, 'ByUser', {
    ...everything,
    subjects: [group('system:nodes')],
  }),
  ...['kube-controller-manager', 'kube-scheduler'].map((name) =>
    schema(name, 'workload-high', 800, 'ByNamespace', {
      ...everything,
      subjects: [user(`system:${name}`)],
    }),
  ),
  schema('kube-system-service-accounts', 'workload-high', 900, 'ByNamespace', {
    ...everything,
    subjects: [systemAccounts],
  }),
  schema('service-accounts', 'workload-low', 9_000, 'ByUser', {
    ...everything,
    subjects: [group('system:serviceaccounts')],
  }),
  schema('global-default', 'global-default', 9_900, 'ByUser', {
    ...everything,
    subjects: everyone,
  }),
];

const level = (
  name: string,
  nominalConcurrencyShares: number,
  lendablePercent: number,
  queues: number,
  handSize: number,
): PriorityLevelConfiguration => ({
  metadata: { name },
  spec: {
    type: 'Limited',
    limited: {
      nominalConcurrencyShares,
      lendablePercent,
      limitResponse: { type: 'Queue', queuing: { queues, handSize, queueLengthLimit: 50 } },
    },
  },
});

export const suggestedPriorityLevels: readonly PriorityLevelConfiguration[] = [
  level('system', 30, 33, 64, 6),
  level('node-high', 40, 25, 64, 6),
  level('leader-election', 10, 0, 16, 4),
  level('workload-high', 40, 50, 128, 6),
  level('workload-low', 100, 90, 128, 6),
  level('global-default', 20, 50, 128, 6),
];

/**
 * Makes what is missing and mends what follows this program. The mandatory ones always do; others
 * unless their annotation says `false`, or it is not there and somebody has changed them.
 */
export async function ensureFlowControl(context: BootstrapContext): Promise<void> {
  const ensure = (resource: string, wanted: KubeObject, mandatory: boolean) => () =>
    ensureObject(context, resource, wanted, mandatory);
  await runBounded([
    ...mandatoryPriorityLevels.map((one) => ensure('prioritylevelconfigurations', one, true)),
    ...suggestedPriorityLevels.map((one) => ensure('prioritylevelconfigurations', one, false)),
  ]);
  await runBounded([
    ...mandatoryFlowSchemas.map((one) => ensure('flowschemas', one, true)),
    ...suggestedFlowSchemas.map((one) => ensure('flowschemas', one, false)),
  ]);
}

async function ensureObject(
  context: BootstrapContext,
  resource: string,
  wanted: KubeObject,
  mandatory: boolean,
): Promise<void> {
  const { name = '' } = wanted.metadata;
  const kind = kindOf(context, FLOW_GROUP, 'v1', resource);
  const as = { ...writeAsServer(context), fieldManager: PRODUCER };
  const stored = context.reader.get(FLOW_GROUP, resource, { name });
  try {
    if (!stored) {
      const metadata = { name, annotations: { [AUTO_UPDATE]: 'true' } };
      await context.resources.create(kind, { ...structuredClone(wanted), metadata }, as);
      return;
    }
    const follows = mandatory || followsProgram(stored);
    const annotation = stored.metadata.annotations?.[AUTO_UPDATE];
    if (annotation === String(follows) && (!follows || sameSpec(stored, wanted))) return;
    const next = structuredClone(stored);
    next.metadata.annotations = { ...next.metadata.annotations, [AUTO_UPDATE]: String(follows) };
    if (follows) next['spec'] = mended(stored, wanted);
    await context.resources.update(kind, next, as);
  } catch (error) {
    // Another API server on the same store may have been faster.
    if (!isStatusError(error, 'AlreadyExists') && !isStatusError(error, 'Conflict')) throw error;
  }
}

function followsProgram({ metadata }: KubeObject): boolean {
  const annotation = metadata.annotations?.[AUTO_UPDATE];
  if (annotation === 'true' || annotation === 'false') return annotation === 'true';
  return metadata.generation === 1;
}

const sameSpec = (stored: KubeObject, wanted: KubeObject): boolean =>
  equalJson(stored['spec'], mended(stored, wanted));

/** The wanted spec; what the exempt level reserves and lends is its users'. */
function mended(stored: KubeObject, wanted: KubeObject): unknown {
  const spec = structuredClone(wanted['spec']) as { exempt?: unknown };
  const own = stored['spec'] as { exempt?: unknown } | undefined;
  if (spec.exempt && own?.exempt) spec.exempt = own.exempt;
  return spec;
}
