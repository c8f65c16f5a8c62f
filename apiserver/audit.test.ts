import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { openAuditLog } from '#apiserver/audit-log.ts';
import { auditOrder, parseAuditPolicy } from '#apiserver/audit-policy.ts';
import { parseRequestInfo } from '#apiserver/request-info.ts';
import { startTestServer } from '#apiserver/testing.ts';

const POLICY = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
  - level: None
    users: ["system:kube-proxy"]
    verbs: ["watch"]
  - level: None
    nonResourceURLs: ["/healthz*", "/version"]
  - level: Metadata
    resources: [{group: "", resources: ["secrets", "pods/log", "*/status"]}]
  - level: Request
    userGroups: ["auditors"]
    namespaces: ["kube-system"]
    omitStages: [ResponseStarted]
  - level: None
    resources: [{group: "", resources: ["configmaps"], resourceNames: ["leader"]}]
  - level: RequestResponse
    resources: [{group: "", resources: ["configmaps"]}]
  - level: Metadata
    resources: [{group: "apps"}]
`;

test('the first rule that matches decides', () => {
  const policy = parseAuditPolicy(POLICY, 'policy.yaml');
  const level = (name: string, url: string, method = 'GET', groups: string[] = []): string =>
    auditOrder(policy, { name, groups }, parseRequestInfo(method, url)).level;
  const maps = '/api/v1/namespaces/a/configmaps';
  assert.equal(level('system:kube-proxy', `${maps}?watch=true`), 'None');
  assert.equal(level('eve', `${maps}?watch=true`), 'RequestResponse');
  assert.equal(level('eve', '/healthz/etcd'), 'None');
  assert.equal(level('eve', '/api/v1/secrets'), 'Metadata');
  assert.equal(level('eve', '/api/v1/namespaces/a/pods/p/log'), 'Metadata');
  assert.equal(level('eve', '/api/v1/namespaces/a/pods/p/status'), 'Metadata');
  assert.equal(level('eve', '/api/v1/namespaces/a/pods/p'), 'None');
  assert.equal(level('eve', '/api/v1/namespaces/kube-system/pods', 'GET', ['auditors']), 'Request');
  assert.equal(level('eve', `${maps}/leader`), 'None');
  assert.equal(level('eve', '/apis/apps/v1/deployments'), 'Metadata');
  const order = auditOrder(
    policy,
    { name: 'eve', groups: ['auditors'] },
    parseRequestInfo('GET', '/api/v1/namespaces/kube-system/pods'),
  );
  assert.deepEqual([...order.omitStages], ['RequestReceived', 'ResponseStarted']);
});

test('a wrong policy is refused by file, field and rule', () => {
  const head = 'apiVersion: audit.k8s.io/v1\nkind: Policy\n';
  const refused = (text: string, message: RegExp): void =>
    assert.throws(() => parseAuditPolicy(text, 'p.yaml'), { message });
  refused('kind: Policy', /p\.yaml: apiVersion: must be audit\.k8s\.io\/v1/);
  refused(head, /rules: must have at least one rule/);
  refused(`${head}rules: [{level: Loud}]`, /rules\[0\]\.level: must be one of None, Metadata/);
  refused(
    `${head}rules: [{level: None, omitStages: [Done]}]`,
    /rules\[0\]\.omitStages: Done: must be one of/,
  );
  refused(
    `${head}rules: [{level: None, nonResourceURLs: [/a], namespaces: [b]}]`,
    /cannot apply to both/,
  );
  refused('a: [', /p\.yaml/);
});

test('files are rotated by size, and old ones go by number', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-audit-'));
  try {
    const clock = manualClock(Date.parse('2026-01-02T03:04:05.678Z'));
    const path = join(directory, 'audit.log');
    const line = 'x'.repeat(400_000);
    for (let i = 0; i < 4; i++) {
      const sink = openAuditLog({ path, maxSizeMb: 1, maxBackups: 2 }, clock, silentLog);
      for (let j = 0; j < 3; j++) {
        sink.write(`${i}${j}${line}`);
        await new Promise((resolve) => setImmediate(resolve));
        await clock.advance(1_000);
      }
      await sink.close();
    }
    const names = readdirSync(directory).sort();
    assert.equal(names.length, 3);
    assert.equal(names.at(-1), 'audit.log');
    assert.match(names[0] ?? '', /^audit-2026-01-02T03-04-\d\d\.678\.log$/);
    assert.match(readFileSync(path, 'utf8'), /^3\d.*\n$/s);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

type Event = Record<string, unknown> & {
  objectRef: Record<string, string>;
  responseStatus: { code: number; reason?: string };
  annotations: Record<string, string>;
  requestObject: { metadata: object };
  responseObject: { metadata: Record<string, unknown> };
};

test('a server records who did what, as far as the policy asks', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-audit-'));
  const path = join(directory, 'audit.log');
  const auditPolicyFile = join(directory, 'policy.yaml');
  writeFileSync(auditPolicyFile, POLICY);
  const server = await startTestServer({ auditPolicyFile, auditLog: { path } });
  try {
    const maps = '/api/v1/namespaces/default/configmaps';
    await server.call(
      'POST',
      maps,
      { metadata: { name: 'a' }, data: { k: 'v' } },
      { 'audit-id': 'id-1', 'user-agent': 'tester/1' },
    );
    await server.call('GET', `${maps}/nothing`, undefined, { 'impersonate-user': 'eve' });
    await server.call('POST', '/api/v1/namespaces/default/secrets', { metadata: { name: 's' } });
    await server.call('GET', `${maps}?watch=true&timeoutSeconds=1`);
    await server.call('GET', '/version');
    await server.handle({
      method: 'GET',
      url: `${maps}/a`,
      headers: { authorization: 'Bearer wrong' },
      body: null,
      signal: new AbortController().signal,
      remoteAddress: '::ffff:192.0.2.7',
    });
  } finally {
    await server.close();
  }
  const events = readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Event)
    .filter((event) => JSON.stringify(event['user']).includes('admin') || !event['annotations'])
    .filter((event) => !JSON.stringify(event['user']).includes('system:apiserver'));
  rmSync(directory, { recursive: true });
  const [create, missing, secret, started, complete, stranger] = events;
  assert.equal(events.length, 6);
  assert.equal(create?.['auditID'], 'id-1');
  assert.equal(create?.['stage'], 'ResponseComplete');
  assert.equal(create?.['userAgent'], 'tester/1');
  assert.deepEqual(create?.objectRef, {
    resource: 'configmaps',
    namespace: 'default',
    name: 'a',
    apiVersion: 'v1',
  });
  assert.deepEqual(create?.requestObject, { metadata: { name: 'a' }, data: { k: 'v' } });
  assert.equal(create?.responseObject.metadata['name'], 'a');
  assert.equal('managedFields' in (create?.responseObject.metadata ?? {}), false);
  assert.deepEqual(create?.responseStatus, { metadata: {}, code: 201 });
  assert.equal(create?.annotations['authorization.k8s.io/decision'], 'allow');
  assert.match(String(create?.['requestReceivedTimestamp']), /^\d{4}-.*\.\d{6}Z$/);
  assert.deepEqual(missing?.['impersonatedUser'], {
    username: 'eve',
    groups: ['system:authenticated'],
  });
  assert.equal(missing?.responseStatus.code, 403);
  assert.equal(missing?.responseStatus.reason, 'Forbidden');
  assert.equal(missing?.annotations['authorization.k8s.io/decision'], 'forbid');
  assert.equal(secret?.objectRef['name'], 's');
  assert.equal('requestObject' in (secret ?? {}), false);
  assert.equal(started?.['stage'], 'ResponseStarted');
  assert.equal(complete?.['stage'], 'ResponseComplete');
  assert.equal(stranger?.responseStatus.code, 401);
  assert.deepEqual(stranger?.['user'], {});
  assert.deepEqual(stranger?.['sourceIPs'], ['192.0.2.7']);
});
