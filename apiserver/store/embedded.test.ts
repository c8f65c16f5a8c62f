import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openEmbeddedStore } from '#apiserver/store/embedded.ts';
import { storeSuite } from '#apiserver/store/suite.ts';
import { manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';

storeSuite('embedded store', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'gantry-store-'));
  const clock = manualClock(1_000_000);
  const store = await openEmbeddedStore(dataDir, { clock, log: silentLog });
  return {
    store,
    passTime: (ms) => clock.advance(ms),
    async stop() {
      await store.close();
      await rm(dataDir, { recursive: true });
    },
  };
});
