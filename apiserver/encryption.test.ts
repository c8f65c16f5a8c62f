import assert from 'node:assert/strict';
import { createSecretKey, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { manualClock, systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { createEncryption, openValue } from '#apiserver/encryption.ts';
import { parseEncryptionConfig } from '#apiserver/encryption-config.ts';
import { openSecretbox, sealSecretbox } from '#apiserver/encryption-secretbox.ts';
import { openEncryption } from '#apiserver/encryption-start.ts';
import { openEmbeddedStore } from '#apiserver/store/embedded.ts';
import { startTestServer } from '#apiserver/testing.ts';

const hex = (text: string): Buffer => Buffer.from(text, 'hex');
const secret = (size = 32): string => randomBytes(size).toString('base64');

test('secretbox is NaCl’s, by its published vector', () => {
  const key = hex('1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389');
  const nonce = hex('69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37');
  const message = hex(
    'be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a' +
      '1ac728d45e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2' +
      'f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e0' +
      '82f937763848645e0705',
  );
  const sealed = hex(
    'f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4' +
      '476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738' +
      'b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de' +
      '56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5',
  );
  const own = sealSecretbox(message, key, nonce);
  assert.equal(Buffer.from(own).subarray(24).toString('hex'), sealed.toString('hex'));
  assert.deepEqual(Buffer.from(openSecretbox(own, key)), message);
});

test('every provider gives back what it sealed, and notices what is not so', () => {
  for (const type of ['aesgcm', 'aescbc', 'secretbox'] as const) {
    for (const size of type === 'secretbox' ? [32] : [16, 24, 32]) {
      const keys = [{ name: 'k', key: createSecretKey(randomBytes(size)) }];
      const encryption = createEncryption([
        { resources: ['secrets'], providers: [{ type, keys }] },
      ]);
      const of = encryption.of('', 'secrets');
      for (const length of [0, 1, 15, 16, 17, 63, 64, 65, 1_000]) {
        const value = randomBytes(length);
        const sealed = of.transformers[0]?.seal(value, '/k') ?? value;
        assert.ok(Buffer.from(sealed).toString('latin1').startsWith(`k8s:enc:${type}:v1:k:`));
        const opened = openValue(of, sealed, '/k');
        assert.deepEqual(Buffer.from(opened.value), value);
        assert.equal(opened.seal, `k8s:enc:${type}:v1:k:`);
        if (type === 'aescbc') continue;
        const changed = Buffer.from(sealed);
        changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1;
        assert.throws(() => openValue(of, changed, '/k'));
      }
    }
  }
});

test('a value belongs to its key: aesgcm does not open it elsewhere', () => {
  const keys = [{ name: 'k', key: createSecretKey(randomBytes(32)) }];
  const of = createEncryption([{ resources: ['*.*'], providers: [{ type: 'aesgcm', keys }] }]).of(
    '',
    'secrets',
  );
  const sealed = of.transformers[0]?.seal(Buffer.from('x'), '/registry/core/secrets/a/b');
  assert.throws(() => openValue(of, sealed ?? Buffer.alloc(0), '/registry/core/secrets/a/c'));
});

const config = (rules: string): string =>
  `apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n${rules}`;

test('rules are found by resource and wildcard, the first one first', () => {
  const rule = (resources: string, key: string): string =>
    `- resources: [${resources}]\n  providers: [{aesgcm: {keys: [{name: ${key}, secret: "${secret()}"}]}}]\n`;
  const text = config(
    rule('secrets', 'one') +
      rule('"*.apps"', 'two') +
      rule('"*."', 'three') +
      rule('"*.*"', 'four'),
  );
  const encryption = createEncryption(parseEncryptionConfig(text, 'c.yaml'));
  const keyOf = (group: string, resource: string) =>
    encryption.of(group, resource).transformers[0]?.prefix.split(':')[4];
  assert.equal(keyOf('', 'secrets'), 'one');
  assert.equal(keyOf('apps', 'deployments'), 'two');
  assert.equal(keyOf('', 'configmaps'), 'three');
  assert.equal(keyOf('batch', 'jobs'), 'four');
});

test('a wrong file is refused by field and rule, without showing secrets', () => {
  const refused = (rules: string, message: RegExp): void =>
    assert.throws(() => parseEncryptionConfig(config(rules), 'c.yaml'), { message });
  const provider = (text: string): string => `- resources: [secrets]\n  providers: [${text}]\n`;
  refused('  []', /c\.yaml: resources: must have at least one item/);
  refused('- resources: [secrets]', /resources\[0\]\.providers: must have at least one item/);
  refused(provider('{kms: {}}'), /providers\[0\]: kms: must be one of identity, aesgcm/);
  refused(provider('{identity: {}, aesgcm: {}}'), /more than one provider/);
  const short = provider(`{aesgcm: {keys: [{name: k, secret: "${secret(20)}"}]}}`);
  refused(short, /keys\[0\]\.secret: has 20 bytes: must have 16, 24, 32/);
  refused(provider('{aesgcm: {keys: [{name: "a:b", secret: AA==}]}}'), /must not contain a colon/);
  refused('- resources: ["*"]\n  providers: [{identity: {}}]\n', /use \*\.\* for all/);
});

test('a changed file is taken over, a wrong one is not', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-encryption-'));
  const path = join(directory, 'c.yaml');
  const write = (name: string): void =>
    writeFileSync(
      path,
      config(
        `- resources: [secrets]\n  providers: [{aesgcm: {keys: [{name: ${name}, secret: "${secret()}"}]}}]\n`,
      ),
    );
  write('old');
  const file = openEncryption(path);
  const clock = manualClock();
  const stop = new AbortController();
  let noted: (() => void) | undefined;
  const note = (): void => noted?.();
  const log = { ...silentLog, info: note, error: note };
  const running = file?.follow({ clock, log, signal: stop.signal }).catch(() => {});
  const prefix = () => file?.current().of('', 'secrets').transformers[0]?.prefix;
  const nextLook = async (): Promise<void> => {
    const seen = new Promise<void>((resolve) => (noted = resolve));
    await clock.advance(60_000);
    await seen;
    await new Promise((resolve) => setImmediate(resolve));
  };
  write('new');
  await nextLook();
  assert.equal(prefix(), 'k8s:enc:aesgcm:v1:new:');
  writeFileSync(path, 'kind: Nonsense');
  await nextLook();
  assert.equal(prefix(), 'k8s:enc:aesgcm:v1:new:');
  stop.abort();
  await running;
  rmSync(directory, { recursive: true });
});

test('a server keeps secrets sealed, rotates keys, and says what it cannot read', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'gantry-encryption-'));
  const path = join(dataDir, 'encryption.yaml');
  const [first, second] = [secret(), secret()];
  const providers = (...list: string[]): void =>
    writeFileSync(path, config(`- resources: [secrets]\n  providers: [${list.join(', ')}]\n`));
  const gcm = `{aesgcm: {keys: [{name: one, secret: "${first}"}]}}`;
  const box = `{secretbox: {keys: [{name: two, secret: "${second}"}]}}`;
  const secrets = '/api/v1/namespaces/default/secrets';
  const stored = async (name: string): Promise<string> => {
    const store = await openEmbeddedStore(dataDir, { clock: systemClock, log: silentLog });
    const { entry } = await store.get(`/registry/core/secrets/default/${name}`);
    await store.close();
    return Buffer.from(entry?.value ?? []).toString('latin1');
  };
  const withServer = async (
    run: (server: Awaited<ReturnType<typeof startTestServer>>) => Promise<void>,
  ): Promise<void> => {
    const server = await startTestServer({ dataDir, encryptionProviderConfig: path });
    try {
      await run(server);
    } finally {
      await server.close();
    }
  };
  try {
    providers('{identity: {}}');
    await withServer(async (server) => {
      await server.call('POST', secrets, { metadata: { name: 'plain' }, stringData: { a: 'b' } });
    });
    assert.match(await stored('plain'), /^\{"apiVersion":"v1"/);
    providers(gcm, '{identity: {}}');
    await withServer(async (server) => {
      await server.call('POST', secrets, { metadata: { name: 's' }, stringData: { a: 'b' } });
      const read = await server.call('GET', `${secrets}/s`);
      assert.equal(read.code, 200);
      // The one written before is read as it is, and sealed when it is written again.
      const plain = await server.call('GET', `${secrets}/plain`);
      assert.equal((await server.call('PUT', `${secrets}/plain`, plain.text)).code, 200);
    });
    assert.match(await stored('s'), /^k8s:enc:aesgcm:v1:one:/);
    assert.match(await stored('plain'), /^k8s:enc:aesgcm:v1:one:/);
    providers(box, gcm);
    await withServer(async (server) => {
      const { text } = await server.call('GET', `${secrets}/s`);
      assert.match(text, /"a":"Yg=="/);
      assert.equal((await server.call('PUT', `${secrets}/s`, text)).code, 200);
      const again = JSON.parse((await server.call('GET', `${secrets}/s`)).text);
      // Now that it is sealed with the new key, the same again changes nothing.
      const { code, text: same } = await server.call('PUT', `${secrets}/s`, again);
      assert.equal(code, 200);
      assert.equal(JSON.parse(same).metadata.resourceVersion, again.metadata.resourceVersion);
    });
    assert.match(await stored('s'), /^k8s:enc:secretbox:v1:two:/);
    providers(box);
    await withServer(async (server) => {
      assert.equal((await server.call('GET', `${secrets}/s`)).code, 200);
      const lost = await server.call('GET', `${secrets}/plain`);
      assert.equal(lost.code, 500);
      assert.match(
        lost.text,
        /unable to transform key \\"\/registry\/core\/secrets\/default\/plain\\": no matching prefix found: it was written with k8s:enc:aesgcm:v1:one/,
      );
      assert.equal((await server.call('GET', secrets)).code, 500);
      assert.equal((await server.call('GET', '/api/v1/namespaces/kube-system/secrets')).code, 200);
      assert.equal((await server.call('GET', '/api/v1/namespaces/default/configmaps')).code, 200);
    });
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
});
