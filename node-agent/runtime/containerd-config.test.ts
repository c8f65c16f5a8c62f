import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  containerdConfig,
  defaultRuntime,
  hasCapability,
  type HostFacts,
  hostsToml,
  missingForContainerd,
} from './containerd-config.ts';

const host: HostFacts = {
  containerd: '/usr/bin/containerd',
  runc: '/usr/sbin/runc',
  crun: undefined,
  cniBinDir: '/usr/lib/cni',
  root: true,
  cgroups: 'v2',
  canLowerOomScore: true,
  hasHugetlb: true,
  hasOverlayfs: true,
  hasAppArmor: false,
};

const paths = {
  rootDir: '/data/root',
  stateDir: '/run/x/state',
  socket: '/run/x/containerd.sock',
  cniConfDir: '/data/cni',
  certsDir: '/data/certs.d',
  sandboxImage: 'gantry.internal/pause:1',
};

test('a capable host gets low OOM scores, overlayfs and only the installed runtimes', () => {
  const text = containerdConfig(paths, host);
  assert.match(text, /^version = 2$/m);
  assert.match(text, /^oom_score = -999$/m);
  assert.match(text, /^restrict_oom_score_adj = false$/m);
  assert.match(text, /^disable_hugetlb_controller = false$/m);
  assert.match(text, /^snapshotter = "overlayfs"$/m);
  assert.match(text, /^default_runtime_name = "runc"$/m);
  assert.match(text, /^BinaryName = "\/usr\/sbin\/runc"$/m);
  assert.match(text, /^\[plugins\."io\.containerd\.grpc\.v1\.cri"\.registry\]$/m);
  assert.doesNotMatch(text, /crun/);
});

test('a host without CAP_SYS_RESOURCE, hugetlb and overlayfs gets what works there', () => {
  const poor = { ...host, canLowerOomScore: false, hasHugetlb: false, hasOverlayfs: false };
  const text = containerdConfig(paths, poor);
  assert.match(text, /^oom_score = 0$/m);
  assert.match(text, /^restrict_oom_score_adj = true$/m);
  assert.match(text, /^disable_hugetlb_controller = true$/m);
  assert.match(text, /^snapshotter = "native"$/m);
});

test('crun is preferred except on a hybrid cgroup layout, which it refuses', () => {
  const both = { ...host, crun: '/usr/bin/crun' };
  assert.equal(defaultRuntime(both), 'crun');
  assert.equal(defaultRuntime({ ...both, cgroups: 'v1' }), 'crun');
  assert.equal(defaultRuntime({ ...both, cgroups: 'hybrid' }), 'runc');
  assert.equal(defaultRuntime({ ...both, cgroups: 'hybrid', runc: undefined }), 'crun');
  assert.equal(defaultRuntime(host), 'runc');
});

test('everything that is missing is named at once, with the way out', () => {
  assert.deepEqual(missingForContainerd(host), []);
  const bare = { ...host, root: false, containerd: undefined, runc: undefined };
  const missing = missingForContainerd({ ...bare, cniBinDir: undefined });
  assert.equal(missing.length, 4);
  assert.match(missing.join('\n'), /sudo[^]*apt-get install containerd[^]*runc[^]*networking-plug/);
});

test('a capability is read from the effective mask', () => {
  assert.equal(hasCapability('CapEff:\t000001fffeffffff\n', 24n), false);
  assert.equal(hasCapability('CapEff:\t000001ffffffffff\n', 24n), true);
  assert.equal(hasCapability('CapPrm:\t000001ffffffffff\n', 24n), false);
});

test('a hosts.toml names the server twice, so that no other is tried', () => {
  const text = hostsToml('http://127.0.0.1:5000');
  assert.match(text, /^server = "http:\/\/127\.0\.0\.1:5000"$/m);
  assert.match(text, /^\[host\."http:\/\/127\.0\.0\.1:5000"\]$/m);
});

test('a mirror is asked first, and the registry itself for the rest', () => {
  const url = 'http://127.0.0.1:5000';
  assert.match(hostsToml(url), /^server = "http:\/\/127.0.0.1:5000"$/m);
  const mirror = hostsToml(url, { mirror: true });
  assert.doesNotMatch(mirror, /^server/m);
  assert.match(
    mirror,
    /^\[host."http:\/\/127.0.0.1:5000"\]\n {2}capabilities = \["pull", "resolve"\]$/m,
  );
});
