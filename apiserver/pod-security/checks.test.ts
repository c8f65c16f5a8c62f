import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PodSpec } from '#api/types.ts';
import { violationsOf, violationText } from '#apiserver/pod-security/checks.ts';
import { policyOf, validatePolicyLabels } from '#apiserver/pod-security/policy.ts';

const LATEST = Infinity;

/** Violations of a pod with one container `c`. */
function told(
  level: 'baseline' | 'restricted',
  container: object,
  pod: object = {},
  minor = LATEST,
): string {
  const spec = { containers: [{ name: 'c', image: 'i', ...container }], ...pod } as PodSpec;
  return violationText(violationsOf({ spec }, { level, minor }));
}

const hardened = {
  allowPrivilegeEscalation: false,
  runAsNonRoot: true,
  capabilities: { drop: ['ALL'] },
  seccompProfile: { type: 'RuntimeDefault' },
};

test('baseline forbids the known ways out', () => {
  const cases: [container: object, pod: object, text: string][] = [
    [{}, {}, ''],
    [
      { securityContext: { privileged: true } },
      { hostPID: true },
      'host namespaces (hostPID=true), privileged (container "c" must not set securityContext.privileged=true)',
    ],
    [
      { securityContext: { capabilities: { add: ['CHOWN', 'NET_ADMIN'] } } },
      {},
      'non-default capabilities (container "c" must not include "NET_ADMIN" in securityContext.capabilities.add)',
    ],
    [{}, { volumes: [{ name: 'h', hostPath: { path: '/' } }] }, 'hostPath volumes (volume "h")'],
    [
      {
        ports: [
          { containerPort: 1, hostPort: 90 },
          { containerPort: 2, hostPort: 80 },
        ],
      },
      {},
      'hostPort (container "c" uses hostPorts 80, 90)',
    ],
    [
      { securityContext: { procMount: 'Unmasked' } },
      {},
      'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
    ],
    [
      { securityContext: { seccompProfile: { type: 'Unconfined' } } },
      { securityContext: { seccompProfile: { type: 'Unconfined' } } },
      'seccompProfile (pod and container "c" must not set securityContext.seccompProfile.type to "Unconfined")',
    ],
    [
      {},
      { securityContext: { sysctls: [{ name: 'net.ipv4.tcp_rmem' }, { name: 'vm.swappiness' }] } },
      'forbidden sysctls (vm.swappiness)',
    ],
    [
      { securityContext: { seLinuxOptions: { type: 'spc_t', user: 'u' } } },
      {},
      'seLinuxOptions (container "c" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set)',
    ],
    [
      { livenessProbe: { httpGet: { host: '1.2.3.4', port: 80 } } },
      {},
      'probe or lifecycle host (container "c" uses probe or lifecycle host "1.2.3.4")',
    ],
  ];
  for (const [container, pod, text] of cases) assert.equal(told('baseline', container, pod), text);
});

test('restricted asks for hardening', () => {
  const plain = told('restricted', {});
  assert.equal(
    plain,
    'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), ' +
      'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), ' +
      'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), ' +
      'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")',
  );
  const cases: [context: object, pod: object, text: string][] = [
    [hardened, {}, ''],
    [{ ...hardened, runAsUser: 0 }, {}, 'runAsUser=0 (container "c" must not set runAsUser=0)'],
    [
      hardened,
      {
        volumes: [
          { name: 'n', nfs: {} },
          { name: 'h', hostPath: {} },
        ],
      },
      'restricted volume types (volumes "n", "h" use restricted volume types "hostPath", "nfs")',
    ],
    [
      { ...hardened, runAsNonRoot: undefined, seccompProfile: undefined },
      { securityContext: { runAsNonRoot: true, seccompProfile: { type: 'Localhost' } } },
      '',
    ],
    [
      hardened,
      { securityContext: { runAsNonRoot: false } },
      'runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)',
    ],
    [
      { ...hardened, capabilities: { drop: ['NET_RAW'], add: ['NET_BIND_SERVICE', 'CHOWN'] } },
      {},
      'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]; container "c" must not include "CHOWN" in securityContext.capabilities.add)',
    ],
  ];
  for (const [securityContext, pod, text] of cases) {
    assert.equal(told('restricted', { securityContext }, pod), text);
  }
});

test('a version judges by its own rules', () => {
  const noCapabilities = { ...hardened, capabilities: undefined, runAsUser: 0 };
  const container = { securityContext: noCapabilities };
  assert.equal(told('restricted', container, {}, 20), '');
  assert.match(told('restricted', container, {}, 22), /^unrestricted capabilities [^,]+$/);
  assert.match(told('restricted', container, {}, 23), /runAsUser=0/);
  const windows = { os: { name: 'windows' }, securityContext: { runAsNonRoot: true } };
  assert.equal(told('restricted', {}, windows), '');
  assert.notEqual(told('restricted', {}, windows, 24), '');
});

test('labels make the policy, and wrong ones are told', () => {
  const prefix = 'pod-security.kubernetes.io/';
  const labels = { [`${prefix}enforce`]: 'baseline', [`${prefix}enforce-version`]: 'v1.20' };
  assert.deepEqual(policyOf(labels), {
    enforce: { level: 'baseline', minor: 20 },
    audit: { level: 'privileged', minor: Infinity },
    warn: { level: 'privileged', minor: Infinity },
  });
  assert.deepEqual(validatePolicyLabels(labels), []);
  const wrong = { [`${prefix}warn`]: 'strict', [`${prefix}audit-version`]: '1.20' };
  assert.deepEqual(
    validatePolicyLabels(wrong).map(({ path, message }) => `${path}: ${message}`),
    [
      `metadata.labels[${prefix}audit-version]: Invalid value: "1.20": must be "latest" or "v1.x"`,
      `metadata.labels[${prefix}warn]: Invalid value: "strict": must be one of privileged, baseline, restricted`,
    ],
  );
});
