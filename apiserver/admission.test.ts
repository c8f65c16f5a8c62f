import assert from 'node:assert/strict';
import { test } from 'node:test';
import { builtinKinds } from '#api/kinds.ts';
import { buildScheme } from '#api/scheme.ts';
import { isStatusError } from '#api/status.ts';
import type { KubeObject, Pod } from '#api/types.ts';
import { manualClock } from '#base/clock.ts';
import { seededRandom } from '#base/random.ts';
import { admissionRules } from '#apiserver/admission.ts';
import type { AdmissionContext, AdmissionRequest } from '#apiserver/admission-rule.ts';
import { createAuthorizer } from '#apiserver/authz/authorize.ts';
import { parseRule } from '#apiserver/authz/rules.ts';
import { type ReaderDouble, readerDouble } from '#apiserver/reader-double.ts';
import type { UserInfo } from '#apiserver/user.ts';

const admin: UserInfo = { name: 'admin', groups: ['system:masters', 'system:authenticated'] };
const agent: UserInfo = { name: 'system:node:n1', groups: ['system:nodes'] };

const scheme = buildScheme(builtinKinds);

const world = (): ReaderDouble =>
  readerDouble({
    namespaces: [
      { metadata: { name: 'ns' }, status: { phase: 'Active' } },
      { metadata: { name: 'going' }, status: { phase: 'Terminating' } },
      {
        metadata: { name: 'walled', labels: { 'gantry.dev/isolation': 'microvm' } },
        status: { phase: 'Active' },
      },
      {
        metadata: { name: 'typo', labels: { 'gantry.dev/isolation': 'micro' } },
        status: { phase: 'Active' },
      },
      {
        metadata: { name: 'safe', labels: { 'pod-security.kubernetes.io/enforce': 'baseline' } },
        status: { phase: 'Active' },
      },
    ],
    serviceaccounts: [
      { metadata: { namespace: 'ns', name: 'default' }, imagePullSecrets: [{ name: 'pull' }] },
      { metadata: { namespace: 'ns', name: 'quiet' }, automountServiceAccountToken: false },
      { metadata: { namespace: 'safe', name: 'default' } },
      { metadata: { namespace: 'walled', name: 'default' } },
      { metadata: { namespace: 'typo', name: 'default' } },
    ],
    pods: [{ metadata: { namespace: 'ns', name: 'p', uid: 'u1' }, spec: { nodeName: 'n1' } }],
    'priorityclasses.scheduling.k8s.io': [
      { metadata: { name: 'high' }, value: 1000, preemptionPolicy: 'Never' },
      { metadata: { name: 'usual' }, value: 7, globalDefault: true },
    ],
    'runtimeclasses.node.k8s.io': [
      { metadata: { name: 'microvm' }, handler: 'microvm', overhead: { podFixed: { cpu: '1m' } } },
      {
        metadata: { name: 'vm' },
        handler: 'vm',
        overhead: { podFixed: { memory: '64Mi' } },
        scheduling: { nodeSelector: { vm: 'yes' }, tolerations: [{ key: 'vm' }] },
      },
    ],
  });

type Write = Partial<Omit<AdmissionRequest, 'kind'>> & { resource: string };

/** Passes a write through all rules, mutating ones first, as the server does. */
async function admit(write: Write, reader: ReaderDouble = world()): Promise<AdmissionRequest> {
  const { resource, ...fields } = write;
  const [plural, ...group] = resource.split('.');
  const kind = builtinKinds.find((k) => k.plural === plural && k.group === group.join('.'));
  assert.ok(kind, resource);
  const object = fields.object ?? null;
  const request: AdmissionRequest = {
    operation: 'CREATE',
    subresource: '',
    namespace: object?.metadata.namespace ?? '',
    name: object?.metadata.name ?? '',
    oldObject: null,
    user: admin,
    dryRun: false,
    warnings: [],
    ...fields,
    kind,
    object,
  };
  const context = {
    scheme,
    reader,
    authorizer: createAuthorizer({ reader }),
    modify: (async (group, _version, resource, key, change) => {
      const copy = structuredClone(reader.get(group, resource, key));
      assert.ok(copy);
      change(copy as never);
      reader.put(group, resource, copy);
    }) satisfies AdmissionContext['modify'],
    clock: manualClock(),
    random: seededRandom(1),
    signal: new AbortController().signal,
  };
  for (const phase of ['mutate', 'validate'] as const) {
    for (const rule of admissionRules) {
      if (rule.handles(request)) await rule[phase]?.(request, context);
    }
  }
  return request;
}

const podOf = (spec: object = {}, namespace = 'ns'): Pod => ({
  metadata: { name: 'x', namespace },
  spec: { containers: [{ name: 'c', image: 'i' }], ...spec } as Pod['spec'],
});
const admitPod = async (spec: object, namespace?: string): Promise<Pod> =>
  (await admit({ resource: 'pods', object: podOf(spec, namespace) })).object as Pod;

async function refusal(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (isStatusError(error)) return `${error.code} ${error.message}`;
    throw error;
  }
  return 'allowed';
}

test('a plain pod gets account, token volume, priority and tolerations', async () => {
  const { spec } = await admitPod({});
  assert.equal(spec.serviceAccountName, 'default');
  assert.deepEqual(spec.imagePullSecrets, [{ name: 'pull' }]);
  const [volume] = spec.volumes ?? [];
  assert.match(volume?.name ?? '', /^kube-api-access-[a-z0-9]{5}$/);
  assert.equal(volume?.projected?.sources?.length, 3);
  assert.deepEqual(spec.containers[0]?.volumeMounts, [
    {
      name: volume?.name,
      readOnly: true,
      mountPath: '/var/run/secrets/kubernetes.io/serviceaccount',
    },
  ]);
  assert.deepEqual(
    [spec.priority, spec.priorityClassName, spec.preemptionPolicy],
    [7, 'usual', 'PreemptLowerPriority'],
  );
  assert.deepEqual(
    spec.tolerations?.map(({ key, tolerationSeconds }) => `${key} ${tolerationSeconds}`),
    ['node.kubernetes.io/not-ready 300', 'node.kubernetes.io/unreachable 300'],
  );
});

test('what the pod or its account says wins', async () => {
  assert.equal((await admitPod({ serviceAccountName: 'quiet' })).spec.volumes, undefined);
  assert.equal((await admitPod({ automountServiceAccountToken: false })).spec.volumes, undefined);
  const forever = [{ operator: 'Exists' }];
  assert.deepEqual((await admitPod({ tolerations: forever })).spec.tolerations, forever);
  const high = await admitPod({ priorityClassName: 'high' });
  assert.deepEqual([high.spec.priority, high.spec.preemptionPolicy], [1000, 'Never']);
});

test('a runtime class adds overhead, node selector and tolerations', async () => {
  const { spec } = await admitPod({ runtimeClassName: 'vm', nodeSelector: { a: 'b' } });
  assert.deepEqual(spec.overhead, { memory: '64Mi' });
  assert.deepEqual(spec.nodeSelector, { a: 'b', vm: 'yes' });
  assert.deepEqual(spec.tolerations?.at(-1), { key: 'vm' });
});

test('a namespace can require microVMs', async () => {
  const { spec } = await admitPod({}, 'walled');
  assert.equal(spec.runtimeClassName, 'microvm');
  assert.deepEqual(spec.overhead, { cpu: '1m' });
  assert.equal(
    await refusal(admitPod({ runtimeClassName: 'vm' }, 'walled')),
    '403 pods "x" is forbidden: namespace walled is labelled gantry.dev/isolation=microvm: ' +
      'spec.runtimeClassName "vm" runs containers; leave it out or use "microvm"',
  );
  assert.match(
    await refusal(admitPod({}, 'typo')),
    /only isolation that can be required is microvm/,
  );
  assert.equal((await admitPod({}, 'ns')).spec.runtimeClassName, undefined);
});

test('pods that are refused', async () => {
  const pod = 'pods "x" is forbidden:';
  const cases: [spec: object, namespace: string, text: string][] = [
    [{}, 'none', '404 namespaces "none" not found'],
    [
      {},
      'going',
      `403 ${pod} unable to create new content in namespace going because it is being terminated`,
    ],
    [
      { serviceAccountName: 'ghost' },
      'ns',
      `403 ${pod} error looking up service account ns/ghost: serviceaccount "ghost" not found`,
    ],
    [{ priorityClassName: 'no' }, 'ns', `403 ${pod} no PriorityClass with name no was found`],
    [
      { priorityClassName: 'high', priority: 5 },
      'ns',
      `403 ${pod} the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 1000 from the given PriorityClass name`,
    ],
    [{ runtimeClassName: 'no' }, 'ns', `403 ${pod} pod rejected: RuntimeClass "no" not found`],
    [
      { runtimeClassName: 'vm', overhead: { memory: '1Mi' } },
      'ns',
      `403 ${pod} pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead`,
    ],
    [
      { runtimeClassName: 'vm', nodeSelector: { vm: 'no' } },
      'ns',
      `403 ${pod} conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no`,
    ],
    [
      { hostNetwork: true },
      'safe',
      `403 ${pod} violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`,
    ],
  ];
  for (const [spec, namespace, text] of cases) {
    assert.equal(await refusal(admitPod(spec, namespace)), text);
  }
});

test('what the system needs stays', async () => {
  const remove = (resource: string, name: string): Promise<string> =>
    refusal(admit({ resource, operation: 'DELETE', name }));
  assert.match(await remove('namespaces', 'kube-system'), /403 .* may not be deleted/);
  assert.equal(await remove('namespaces', 'ns'), 'allowed');
  const classes = 'priorityclasses.scheduling.k8s.io';
  assert.match(await remove(classes, 'system-node-critical'), /403 .* cannot be deleted/);
  assert.equal(await remove(classes, 'high'), 'allowed');
});

test('a new node waits for its controller', async () => {
  const { object } = await admit({ resource: 'nodes', object: { metadata: { name: 'n' } } });
  const taint = { key: 'node.kubernetes.io/not-ready', effect: 'NoSchedule' };
  assert.deepEqual(object?.['spec'], { taints: [taint] });
});

test('an agent keeps to its own node', async () => {
  const node = (name: string, more: object = {}): KubeObject => ({ metadata: { name, ...more } });
  const write = (fields: Write): Promise<string> => refusal(admit({ user: agent, ...fields }));
  const lease = { namespace: 'kube-node-lease', operation: 'UPDATE' } as const;
  const cases: [Write, RegExp][] = [
    [{ resource: 'nodes', object: node('n1') }, /^allowed$/],
    [{ resource: 'nodes', object: node('n2') }, /not allowed to create node "n2"/],
    [
      { resource: 'nodes', object: node('n1', { labels: { 'kubernetes.io/role': 'x' } }) },
      /not allowed to set the following labels: kubernetes.io\/role/,
    ],
    [
      {
        resource: 'nodes',
        object: node('n1', { labels: { 'kubernetes.io/os': 'linux', a: 'b' } }),
      },
      /^allowed$/,
    ],
    [
      {
        resource: 'nodes',
        operation: 'UPDATE',
        object: { ...node('n1'), spec: { taints: [] } },
        oldObject: { ...node('n1'), spec: { taints: [{ key: 'k' }] } },
      },
      /not allowed to modify taints/,
    ],
    [{ resource: 'leases.coordination.k8s.io', ...lease, object: node('n1') }, /^allowed$/],
    [
      { resource: 'leases.coordination.k8s.io', ...lease, object: node('n2') },
      /same name as the requesting node/,
    ],
    [
      {
        resource: 'pods',
        operation: 'DELETE',
        name: 'q',
        oldObject: podOf({ nodeName: 'n2' }),
      },
      /can only delete pods with spec.nodeName set to itself/,
    ],
    [{ resource: 'pods', object: podOf({ nodeName: 'n1' }) }, /can only create mirror pods/],
  ];
  for (const [fields, expected] of cases) assert.match(await write(fields), expected);
});

test('nobody grants more than they hold', async () => {
  const group = 'rbac.authorization.k8s.io';
  const meta = { name: 'r', namespace: 'ns' };
  const user: UserInfo = { name: 'eve', groups: ['system:authenticated'] };
  const reader = world();
  const role = (name: string, ...rules: string[]) => ({
    metadata: { name, namespace: 'ns' },
    rules: rules.map(parseRule),
  });
  reader.put(group, 'roles', role('own', 'get list | core | pods'));
  reader.put(group, 'roles', role('more', 'get | core | secrets'));
  reader.put(group, 'rolebindings', {
    metadata: { name: 'b', namespace: 'ns' },
    subjects: [{ kind: 'User', name: 'eve' }],
    roleRef: { apiGroup: group, kind: 'Role', name: 'own' },
  });
  const create = (resource: string, object: KubeObject): Promise<string> =>
    refusal(admit({ resource: `${resource}.${group}`, object, user }, reader));
  const bindTo = (name: string): KubeObject => ({
    metadata: meta,
    subjects: [],
    roleRef: { apiGroup: group, kind: 'Role', name },
  });
  assert.equal(await create('roles', role('r', 'get | core | pods')), 'allowed');
  assert.equal(
    await create('roles', role('r', 'get | core | secrets')),
    '403 roles.rbac.authorization.k8s.io "r" is forbidden: user "eve" (groups=["system:authenticated"]) ' +
      'is attempting to grant RBAC permissions not currently held:\n' +
      '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}',
  );
  assert.equal(await create('rolebindings', bindTo('own')), 'allowed');
  assert.match(await create('rolebindings', bindTo('more')), /^403 .*Resources:\["secrets"\]/s);
  assert.match(await create('rolebindings', bindTo('none')), /^404 role\..* "none" not found/);
});

test('limit ranges fill in and bound', async () => {
  const reader = world();
  const limits = (...list: object[]) =>
    reader.put('', 'limitranges', {
      metadata: { namespace: 'ns', name: 'l' },
      spec: { limits: list },
    });
  const create = async (resources: object = {}): Promise<Pod> => {
    const containers = [{ name: 'c', image: 'i', resources }];
    const { object } = await admit({ resource: 'pods', object: podOf({ containers }) }, reader);
    return object as Pod;
  };
  limits({ type: 'Container', default: { cpu: '500m' }, defaultRequest: { cpu: '250m' } });
  const pod = await create();
  assert.deepEqual(pod.spec.containers[0]?.resources, {
    requests: { cpu: '250m' },
    limits: { cpu: '500m' },
  });
  assert.equal(
    pod.metadata.annotations?.['kubernetes.io/limit-ranger'],
    'LimitRanger plugin set: cpu request for container c; cpu limit for container c',
  );
  limits({ type: 'Container', min: { cpu: '100m' }, max: { cpu: '1' } });
  const refused = 'pods "x" is forbidden:';
  assert.equal(
    await refusal(create({ requests: { cpu: '50m' }, limits: { cpu: '2' } })),
    `403 ${refused} [minimum cpu usage per Container is 100m, but request is 50m, maximum cpu usage per Container is 1, but limit is 2]`,
  );
  limits({ type: 'Pod', max: { cpu: '1' }, maxLimitRequestRatio: { cpu: '2' } });
  assert.equal(
    await refusal(create()),
    `403 ${refused} [maximum cpu usage per Pod is 1.  No limit is specified, cpu max limit to request ratio per Pod is 2, but no request is specified or request is 0]`,
  );
  assert.equal(await refusal(create({ requests: { cpu: '1' }, limits: { cpu: '1' } })), 'allowed');
});

test('quotas are charged once, and refuse what they cannot bear', async () => {
  const reader = world();
  const hard = { pods: '3', 'requests.cpu': '1', 'count/configmaps': '1' };
  reader.put('', 'resourcequotas', {
    metadata: { namespace: 'ns', name: 'q' },
    spec: { hard },
    status: { hard, used: { pods: '0', 'requests.cpu': '0', 'count/configmaps': '0' } },
  });
  const used = () => {
    const quota = reader.get('', 'resourcequotas', { namespace: 'ns', name: 'q' });
    return (quota?.['status'] as { used: object } | undefined)?.used;
  };
  const create = (cpu: string | undefined, more: Partial<AdmissionRequest> = {}) => {
    const resources = cpu ? { requests: { cpu } } : {};
    const object = podOf({ containers: [{ name: 'c', image: 'i', resources }] });
    const { kind: _, ...fields } = more;
    return refusal(admit({ resource: 'pods', object, ...fields }, reader));
  };
  assert.equal(await create('400m'), 'allowed');
  assert.equal(await create('400m'), 'allowed');
  assert.deepEqual(used(), { pods: '2', 'requests.cpu': '800m', 'count/configmaps': '0' });
  const refused = '403 pods "x" is forbidden:';
  assert.equal(
    await create('400m'),
    `${refused} exceeded quota: q, requested: requests.cpu=400m, used: requests.cpu=800m, limited: requests.cpu=1`,
  );
  assert.equal(
    await create(undefined),
    `${refused} failed quota: q: must specify requests.cpu for: c`,
  );
  assert.equal(await create('100m', { dryRun: true }), 'allowed');
  assert.deepEqual(used(), { pods: '2', 'requests.cpu': '800m', 'count/configmaps': '0' });
  const map = () =>
    refusal(
      admit(
        { resource: 'configmaps', object: { metadata: { namespace: 'ns', name: 'm' } } },
        reader,
      ),
    );
  assert.deepEqual(await Promise.all([map(), map()]), [
    'allowed',
    '403 configmaps "m" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1',
  ]);
});
