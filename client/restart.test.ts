import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startTestServer } from '#apiserver/testing.ts';
import type { ConfigMap } from '#api/types.ts';
import type { Api, WatchOptions } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { httpsTransport } from '#client/https-transport.ts';
import { createInformers } from '#client/informer-factory.ts';
import { configMaps } from '#client/resources.ts';

const map = (name: string): ConfigMap => ({ metadata: { namespace: 'default', name } });

/** Resolves when the informer's copy has the object. */
function appears(informer: ReturnType<typeof informerOf>, name: string): Promise<void> {
  return new Promise((resolve) => {
    informer.onChange(({ object }) => {
      if (object.metadata.name === name) resolve();
    });
  });
}

const informerOf = (api: Api, signal: AbortSignal) =>
  createInformers(api, { signal }).of(configMaps, { namespace: 'default' });

test('an informer outlives its API server and resumes where it was', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'restart-'));
  const stop = new AbortController();
  const first = await startTestServer({ dataDir });
  const { caPem: ca, token, port, url } = first;
  const transport = httpsTransport({ server: url, ca, token });
  const real = createApi(transport, { userAgent: 'test' });
  const asked: WatchOptions[] = [];
  const api: Api = {
    ...real,
    watch: (resource, options = {}) => {
      asked.push(options);
      return real.watch(resource, options);
    },
  };
  try {
    const informer = informerOf(api, stop.signal);
    await informer.synced();
    const before = await api.create(configMaps, map('before'));
    await informer.reached(before.metadata.resourceVersion ?? '');
    await first.close();
    const second = await startTestServer({ dataDir, securePort: port });
    await api.create(configMaps, map('after'));
    await appears(informer, 'after');
    assert.ok(informer.get({ namespace: 'default', name: 'before' }));
    assert.equal(asked[0]?.sendInitialEvents, true);
    assert.ok(asked.length > 1);
    assert.ok(
      asked.slice(1).every((options) => options.resourceVersion && !options.sendInitialEvents),
    );
    stop.abort(new Error('the test is over'));
    await second.close();
  } finally {
    stop.abort(new Error('the test is over'));
    await transport.close();
    rmSync(dataDir, { recursive: true, force: true });
  }
});
