import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Endpoints, EndpointSlice } from '#api/types.ts';
import { planMirror } from '#controllers/endpointslice-mirroring-controller.ts';

const endpoints: Endpoints = {
  apiVersion: 'v1',
  kind: 'Endpoints',
  metadata: { name: 'db', namespace: 'd', uid: 'e' },
  subsets: [
    {
      addresses: [{ ip: '192.0.2.1' }, { ip: '2001:db8::1' }],
      notReadyAddresses: [{ ip: '192.0.2.2' }],
      ports: [{ port: 5432, protocol: 'TCP' }],
    },
    { addresses: [{ ip: '192.0.2.3' }], ports: [{ port: 5432, protocol: 'TCP' }] },
  ],
};

test('Endpoints written by hand become slices by family and ports', () => {
  const { actions } = planMirror({ endpoints, isMirrored: true, slices: [] });
  const made = actions.flatMap((a) => (a.type === 'create' ? [a.object as EndpointSlice] : []));
  assert.deepEqual(
    made.map((slice) => [
      slice.addressType,
      (slice.endpoints ?? []).map((e) => `${e.addresses[0]} ${e.conditions?.ready}`),
    ]),
    [
      ['IPv4', ['192.0.2.1 true', '192.0.2.2 false', '192.0.2.3 true']],
      ['IPv6', ['2001:db8::1 true']],
    ],
  );
  const slices = made.map((slice, i) => ({
    ...slice,
    metadata: { ...slice.metadata, uid: `s${i}`, name: `db-${i}` },
  }));
  assert.deepEqual(planMirror({ endpoints, isMirrored: true, slices }).actions, []);
  const removal = planMirror({ endpoints, isMirrored: false, slices }).actions;
  assert.deepEqual(
    removal.map((a) => a.type),
    ['delete', 'delete'],
  );
});
