import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isMirror, isStatic, mirrorOf, readStaticPod } from '#node-agent/pods/static-pods.ts';

const MANIFEST = `apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: { app: web }
spec:
  serviceAccountName: nobody
  containers:
    - name: main
      image: nginx
`;
const at = { file: '/m/web.yaml', nodeName: 'n1' };

test('a manifest becomes a pod of this node, whole and with an identity of its text', () => {
  const pod = readStaticPod(MANIFEST, at);
  assert.equal(pod.metadata.name, 'web-n1');
  assert.equal(pod.metadata.namespace, 'default');
  assert.deepEqual(pod.metadata.labels, { app: 'web' });
  assert.equal(pod.spec.nodeName, 'n1');
  assert.equal(pod.spec.restartPolicy, 'Always');
  assert.equal(pod.spec.containers[0]?.imagePullPolicy, 'Always');
  assert.equal(pod.spec.serviceAccountName, undefined, 'there is no token for it');
  assert.ok(isStatic(pod) && !isMirror(pod));
  assert.equal(readStaticPod(MANIFEST, at).metadata.uid, pod.metadata.uid);
  const others = [
    readStaticPod(`${MANIFEST}# changed\n`, at),
    readStaticPod(MANIFEST, { ...at, file: '/m/other.yaml' }),
    readStaticPod(MANIFEST, { ...at, nodeName: 'n2' }),
  ];
  for (const other of others) assert.notEqual(other.metadata.uid, pod.metadata.uid);
  const json = JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'j', namespace: 'kube-system' },
    spec: { containers: [{ name: 'c', image: 'i:1' }] },
  });
  assert.equal(readStaticPod(json, at).metadata.namespace, 'kube-system');
});

test('mistakes are named with their file', () => {
  const wrong: [string, RegExp][] = [
    ['', /^\/m\/web.yaml: want one Pod/],
    [`${MANIFEST}---\n${MANIFEST}`, /want one Pod/],
    [MANIFEST.replace('Pod', 'Job'), /want apiVersion v1 and kind Pod, not Job/],
    [MANIFEST.replace('  name: web', '  x: y'), /metadata.name is required/],
    [MANIFEST.replace('containers', 'container'), /at least one container/],
    ['a: [', /\/m\/web.yaml:\d+:\d+/],
  ];
  for (const [text, message] of wrong)
    assert.throws(
      () => readStaticPod(text, at),
      (error: Error) => message.test(error.message),
      text,
    );
});

test('a mirror belongs to its node and names what it mirrors', () => {
  const pod = readStaticPod(MANIFEST, at);
  const mirror = mirrorOf(pod, { name: 'n1', uid: 'node-uid' });
  assert.ok(isMirror(mirror) && !isStatic(mirror));
  assert.equal(mirror.metadata.uid, undefined);
  assert.equal(mirror.metadata.annotations?.['kubernetes.io/config.mirror'], pod.metadata.uid);
  assert.deepEqual(mirror.metadata.ownerReferences, [
    { apiVersion: 'v1', kind: 'Node', controller: true, name: 'n1', uid: 'node-uid' },
  ]);
  assert.deepEqual(mirror.spec, pod.spec);
});
