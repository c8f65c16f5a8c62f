import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container, Node, Pod } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import {
  containerResources,
  oomScoreAdj,
  podLimits,
} from '#node-agent/containers/container-resources.ts';
import { parseResolvConf, podDns } from '#node-agent/containers/dns-config.ts';
import { admitPod } from '#node-agent/pods/pod-admission.ts';
import { hostsText, podHostname, podPaths } from '#node-agent/pods/pod-files.ts';
import { qosClass } from '#node-agent/containers/qos.ts';
import { featuresOf } from '#node-agent/runtime/containerd.ts';
import { type Image, MICROVM_RUNTIME } from '#node-agent/runtime/service.ts';
import {
  containerSecurity,
  podUsers,
  sandboxSecurity,
} from '#node-agent/containers/security-context.ts';
import { containerConfig } from '#node-agent/containers/container-config.ts';
import { userNamespace } from '#node-agent/pods/id-ranges.ts';
import type { PodContainer } from '#node-agent/pods/pod-observation.ts';
import { statusPatch } from '#node-agent/pods/status-writer.ts';

const podOf = (spec: Partial<Pod['spec']> = {}): Pod => ({
  metadata: { name: 'web-0', namespace: 'ns', uid: 'u' },
  spec: { containers: [{ name: 'c' }], ...spec },
});
const limited = (cpu: string, memory: string, requests?: Record<string, string>): Container => ({
  name: 'c',
  resources: { limits: { cpu, memory }, ...(requests ? { requests } : {}) },
});

test('QoS classes', () => {
  const qos = (...containers: Container[]) => qosClass(podOf({ containers }));
  assert.equal(qos({ name: 'c' }), 'BestEffort');
  assert.equal(qos(limited('1', '1Gi')), 'Guaranteed');
  assert.equal(qos(limited('1', '1Gi', { cpu: '1000m', memory: '1024Mi' })), 'Guaranteed');
  assert.equal(qos(limited('1', '1Gi', { cpu: '500m' })), 'Burstable');
  assert.equal(qos(limited('1', '1Gi'), { name: 'd' }), 'Burstable');
  assert.equal(qos({ name: 'c', resources: { requests: { memory: '1' } } }), 'Burstable');
});

test('resources in the units of the kernel', () => {
  const pod = podOf({ containers: [limited('250m', '64Mi', { cpu: '100m' })] });
  const [container] = pod.spec.containers;
  assert.ok(container);
  const facts = {
    memoryCapacityBytes: 1024 ** 3,
    cgroupVersion: 2,
    hugepageSizes: [],
    swap: false,
  } as const;
  assert.deepEqual(containerResources(pod, container, facts), {
    cpuShares: 102,
    cpuPeriod: 100_000,
    cpuQuota: 25_000,
    memoryLimitInBytes: 64 * 1024 ** 2,
    oomScoreAdj: 1000 - 62,
    unified: { 'memory.oom.group': '1' },
  });
  assert.equal(oomScoreAdj('Guaranteed', 0, 1), -997);
  assert.equal(oomScoreAdj('BestEffort', 0, 1), 1000);
  assert.equal(oomScoreAdj('Burstable', 2, 2), 3);
  assert.deepEqual(podLimits(pod, 500), {
    cpuShares: 102,
    cpuPeriodUs: 100_000,
    cpuQuotaUs: 25_000,
    memoryBytes: 64 * 1024 ** 2,
    pids: 500,
  });
  const open = podLimits(podOf({ containers: [limited('1', '1Gi'), { name: 'd' }] }), undefined);
  assert.deepEqual(Object.keys(open), ['cpuShares', 'cpuPeriodUs']);
});

test('resolv.conf by policy', () => {
  const host = parseResolvConf(
    '# c\nsearch corp.test .\nnameserver 9.9.9.9\noptions edns0 ndots:2\n',
  );
  const facts = { clusterDns: ['10.96.0.10'], clusterDomain: 'cluster.local', host };
  const own = {
    nameservers: ['1.1.1.1'],
    searches: ['x.test'],
    options: [{ name: 'ndots', value: '3' }],
  };
  assert.deepEqual(podDns(podOf(), facts), {
    servers: ['10.96.0.10'],
    searches: ['ns.svc.cluster.local', 'svc.cluster.local', 'cluster.local', 'corp.test'],
    options: ['ndots:5'],
  });
  assert.deepEqual(podDns(podOf({ hostNetwork: true }), facts), host);
  const cluster = podDns(podOf({ hostNetwork: true, dnsPolicy: 'ClusterFirstWithHostNet' }), facts);
  assert.equal(cluster.servers[0], '10.96.0.10');
  assert.deepEqual(podDns(podOf({ dnsPolicy: 'None', dnsConfig: own }), facts), {
    servers: ['1.1.1.1'],
    searches: ['x.test'],
    options: ['ndots:3'],
  });
  assert.deepEqual(podDns(podOf({ dnsConfig: own }), facts).options, ['ndots:3']);
});

test('host names and the hosts file', () => {
  const pod = podOf({ subdomain: 'db', hostAliases: [{ ip: '1.2.3.4', hostnames: ['a', 'b'] }] });
  assert.deepEqual(podHostname(pod, 'c.l'), { hostname: 'web-0', fqdn: 'web-0.db.ns.svc.c.l' });
  const full = podOf({ subdomain: 'db', setHostnameAsFQDN: true });
  assert.equal(podHostname(full, 'c.l').hostname, 'web-0.db.ns.svc.c.l');
  const text = hostsText(pod, { ips: ['10.0.0.2'], clusterDomain: 'c.l', hostFile: 'host' });
  assert.match(text, /^# Kubernetes-managed hosts file\.\n127\.0\.0\.1\tlocalhost\n/);
  assert.match(text, /\n10\.0\.0\.2\tweb-0\.db\.ns\.svc\.c\.l\tweb-0\n/);
  assert.match(text, /\n# Entries added by HostAliases\.\n1\.2\.3\.4\ta\tb\n$/);
  const onHost = hostsText(podOf({ hostNetwork: true }), {
    ips: [],
    clusterDomain: '',
    hostFile: 'HOST\n',
  });
  assert.equal(onHost, '# Kubernetes-managed hosts file (host network).\nHOST\n');
});

test('security: container over pod over image; secrets of the host stay hidden', () => {
  const features = featuresOf('containerd', '1.6.20');
  const image = { uid: { value: 7 }, username: '' } as Image;
  const secure = (
    container: Partial<Container>,
    context: Pod['spec']['securityContext'] = {},
    of = image,
  ) =>
    containerSecurity({
      pod: podOf({ securityContext: context }),
      container: { name: 'c', ...container },
      image: of,
      seccompDir: '/sec',
      features,
    });
  const plain = secure({});
  assert.deepEqual(plain.runAsUser, { value: 7 });
  assert.ok(
    plain.maskedPaths?.includes('/proc/kcore') && plain.readonlyPaths?.includes('/proc/sys'),
  );
  assert.equal(plain.noNewPrivs, false);
  const own = secure(
    {
      securityContext: {
        runAsUser: 1,
        seccompProfile: { type: 'Localhost', localhostProfile: 'p.json' },
      },
    },
    { runAsUser: 2, runAsGroup: 3, fsGroup: 4, supplementalGroups: [5] },
  );
  assert.deepEqual(own.runAsUser, { value: 1 });
  assert.deepEqual(own.runAsGroup, { value: 3 });
  assert.deepEqual(own.supplementalGroups, [5, 4]);
  assert.deepEqual(own.seccomp, { profileType: 'Localhost', localhostRef: '/sec/p.json' });
  const privileged = secure({ securityContext: { privileged: true } });
  assert.deepEqual(privileged.maskedPaths, []);
  const nonRoot = { runAsNonRoot: true };
  assert.throws(
    () => secure({}, nonRoot, { uid: null, username: '' } as Image),
    /image will run as root/,
  );
  assert.throws(
    () => secure({}, nonRoot, { uid: null, username: 'bob' } as Image),
    /non-numeric user \(bob\)/,
  );
  assert.throws(
    () => secure({ securityContext: { runAsUser: 0 } }, nonRoot),
    /breaks non-root policy/,
  );
  assert.equal(secure({}, nonRoot).runAsUser?.value, 7);
  const sandbox = (spec: Partial<Pod['spec']>) => sandboxSecurity(podOf(spec));
  const sysctls = (name: string) =>
    sandbox({ securityContext: { sysctls: [{ name, value: '1' }] } });
  assert.deepEqual(sysctls('kernel.shm_rmid_forced').sysctls, { 'kernel.shm_rmid_forced': '1' });
});

test('a pod with ids of its own: in the sandbox, its containers and each of their mounts', () => {
  const [own, shared] = [podOf({ hostUsers: false }), podOf()];
  const old = featuresOf('containerd', '1.6.20');
  const able = { ...old, userNamespaces: true };
  const given = userNamespace(65_536);
  const claim = (uid: string) => (uid === 'u' ? given : assert.fail(uid));
  assert.throws(() => podUsers(own, old, claim), ConfigError);
  assert.throws(() => podUsers(own, featuresOf(MICROVM_RUNTIME), claim), ConfigError);
  assert.equal(podUsers(own, able, claim), given);
  for (const spec of [{}, { hostUsers: true }])
    assert.equal(podUsers(podOf(spec), able, assert.fail), undefined);

  const requests = (pod: Pod) => {
    const users = podUsers(pod, able, claim);
    const config = containerConfig(
      {
        pod,
        container: { kind: 'main', spec: { name: 'c' } } as PodContainer,
        ...{ attempt: 0, restartDelayMs: 0, env: [], devices: [] },
        image: { id: 'i', uid: null, username: '' } as unknown as Image,
        target: 'other',
        volumeMounts: [{ containerPath: '/v', hostPath: '/h' }],
      },
      {
        paths: podPaths('/root'),
        features: () => able,
        users: () => users,
        resourceFacts: {
          ...{ memoryCapacityBytes: 1, cgroupVersion: 2, hugepageSizes: [], swap: false },
        },
      },
    );
    const { securityContext } = sandboxSecurity(pod, users);
    return { config, sandbox: securityContext.namespaceOptions };
  };
  const ids = [{ hostId: 65_536, containerId: 0, length: 65_536 }];
  const separate = requests(own);
  assert.deepEqual(separate.sandbox.usernsOptions, { mode: 'POD', uids: ids, gids: ids });
  const options = separate.config.linux.securityContext?.namespaceOptions;
  assert.deepEqual(options?.usernsOptions, { mode: 'POD', uids: ids, gids: ids });
  assert.equal(options?.targetId, 'other');
  assert.deepEqual(
    separate.config.mounts.map((m) => [m.containerPath, m.uidMappings, m.gidMappings]),
    ['/v', '/etc/hosts', '/dev/termination-log'].map((path) => [path, ids, ids]),
  );
  assert.doesNotMatch(JSON.stringify(requests(shared)), /usernsOptions|Mappings/);
});

const facts = {
  node: { metadata: { name: 'n1' } } as Node,
  allocatable: new Map<string, number>(),
  hasAppArmor: false,
  features: { supplementalGroupsPolicy: false },
  allowedUnsafeSysctls: [] as string[],
};

test('admission: what the node would ignore or must not allow is refused by name', () => {
  const admit = (spec: Partial<Pod['spec']>, allowedUnsafeSysctls: string[] = []) => {
    const { reason, message } = admitPod(podOf(spec), [], { ...facts, allowedUnsafeSysctls }) ?? {};
    return reason && `${reason}: ${message}`;
  };
  const sysctl = (name: string) => ({ securityContext: { sysctls: [{ name, value: '1' }] } });
  const forbidden = (name: string, why: string) =>
    `SysctlForbidden: forbidden sysctl: "${name}" ${why}`;
  const shm = 'kernel.shm_rmid_forced';
  const port = 'net.ipv4.ip_local_port_range';
  assert.equal(admit(sysctl(shm)), undefined);
  assert.equal(admit(sysctl('net/ipv4/tcp_syncookies')), undefined);
  assert.equal(
    admit(sysctl('net.core.somaxconn')),
    forbidden('net.core.somaxconn', 'not allowlisted'),
  );
  assert.equal(admit(sysctl('net.core.somaxconn'), ['net.core.*']), undefined);
  assert.equal(
    admit({ ...sysctl(port), hostNetwork: true }),
    forbidden(port, 'not allowed with host net enabled'),
  );
  assert.equal(
    admit({ ...sysctl(shm), hostIPC: true }),
    forbidden(shm, 'not allowed with host ipc enabled'),
  );
  const strict = { securityContext: { supplementalGroupsPolicy: 'Strict' } };
  assert.match(admit(strict) ?? '', /^SupplementalGroupsPolicyNotSupported: /);
  assert.match(admit({ os: { name: 'windows' } }) ?? '', /^PodOSNotSupported: /);
});

test('admission: selectors, taints, resources, host ports', () => {
  const node: Node = {
    metadata: { name: 'n', labels: { zone: 'a' } },
    spec: { taints: [{ key: 'gone', effect: 'NoExecute' }] },
  };
  const allocatable = new Map([
    ['cpu', 1000],
    ['memory', 100],
    ['pods', 2],
  ]);
  const open = { ...node, spec: {} };
  const admit = (spec: Partial<Pod['spec']>, others: Pod[] = [], on: Node = open) =>
    admitPod(podOf(spec), others, { ...facts, node: on, allocatable })?.reason;
  const asks = (cpu: string) => [{ name: 'c', resources: { requests: { cpu } } }];
  const port = (hostPort: number, hostIP?: string) => [
    { name: 'c', ports: [{ containerPort: 1, hostPort, ...(hostIP ? { hostIP } : {}) }] },
  ];
  assert.equal(admit({}), undefined);
  assert.equal(admit({ nodeSelector: { zone: 'b' } }), 'NodeAffinity');
  assert.equal(admit({}, [], node), 'TaintToleration');
  assert.equal(admit({ tolerations: [{ operator: 'Exists' }] }, [], node), undefined);
  assert.equal(
    admit({ containers: asks('600m') }, [podOf({ containers: asks('600m') })]),
    'OutOfcpu',
  );
  assert.equal(admit({}, [podOf(), podOf()]), 'OutOfpods');
  assert.equal(admit({ containers: port(80) }, [podOf({ containers: port(80) })]), 'NodePorts');
  const others = [podOf({ containers: port(80, '127.0.0.1') })];
  assert.equal(admit({ containers: port(80, '127.0.0.2') }, others), undefined);
});

test('a status patch holds what changed, and leaves the conditions of others alone', () => {
  const ready = { type: 'Ready', status: 'True', lastTransitionTime: 't' };
  const foreign = { type: 'Gate', status: 'True' };
  const before = {
    phase: 'Running',
    podIPs: [{ ip: '1' }],
    message: 'm',
    conditions: [ready, foreign],
  };
  assert.equal(statusPatch(before, before), undefined);
  const after = {
    phase: 'Failed',
    podIPs: [{ ip: '2' }],
    conditions: [{ ...ready, status: 'False' }],
  };
  assert.deepEqual(statusPatch(before, after), {
    phase: 'Failed',
    message: null,
    podIPs: [{ $patch: 'replace' }, { ip: '2' }],
    conditions: [{ reason: null, message: null, ...ready, status: 'False' }],
  });
});

test('AppArmor profiles are enforced or refused, never ignored', () => {
  const admit = (spec: Partial<Pod['spec']>, hasAppArmor = false) =>
    admitPod(podOf(spec), [], { ...facts, hasAppArmor });
  const profile = (type: string) => ({ appArmorProfile: { type } });
  const refusal = {
    reason: 'AppArmor',
    message: 'Cannot enforce AppArmor: AppArmor is not enabled on the host',
  };
  const inContainer = {
    containers: [{ name: 'c', securityContext: profile('Localhost') }],
  };
  assert.deepEqual(admit({ securityContext: profile('RuntimeDefault') }), refusal);
  assert.deepEqual(admit(inContainer), refusal);
  assert.equal(admit(inContainer, true), undefined);
  assert.equal(admit({ securityContext: profile('Unconfined') }), undefined);
  assert.equal(admit({}), undefined);
});
