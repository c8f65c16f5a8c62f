import { test } from 'node:test';
import { openEtcdStore } from '#apiserver/store/etcd.ts';
import { findEtcd, startEtcd } from '#apiserver/store/etcd-testing.ts';
import { storeSuite } from '#apiserver/store/suite.ts';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';

if (findEtcd() === undefined) {
  test('etcd store', { skip: 'etcd is not installed (package etcd-server)' });
} else {
  storeSuite(
    'etcd store',
    async () => {
      const etcd = await startEtcd();
      const endpoints = [etcd.endpoint];
      const store = await openEtcdStore({ endpoints, clock: systemClock, log: silentLog });
      return {
        store,
        // etcd's leases run on etcd's clock: the tests wait for what they expect.
        passTime: async () => {},
        async stop() {
          await store.close();
          await etcd.stop();
        },
      };
    },
    { lives: 3 },
  );
}
