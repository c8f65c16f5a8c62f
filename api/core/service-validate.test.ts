import assert from 'node:assert/strict';
import { test } from 'node:test';
import { service } from '#api/core/service.ts';
import { asCreated, createErrors } from '#api/kind-probe.ts';
import type { Service } from '#api/types.ts';

const serviceOf = (spec: object) => ({ metadata: { name: 's' }, spec });
const port = (more: object = {}) => ({ port: 80, ...more });

const REFUSED: [spec: object, errors: string[]][] = [
  [{ ports: [port()] }, []],
  [{ type: 'ExternalName', externalName: 'a.example' }, []],
  [{}, ['spec.ports: Required value']],
  [{ clusterIP: 'None' }, []],
  [{ type: 'Odd', ports: [port()] }, ['spec.type: Unsupported value: "Odd"']],
  [
    { ports: [port({ name: 'a' }), port({ name: 'a', port: 81 })] },
    ['spec.ports[1].name: Duplicate value: "a"'],
  ],
  [
    { ports: [port(), port({ port: 81 })] },
    ['spec.ports[0].name: Required value', 'spec.ports[1].name: Required value'],
  ],
  [
    { ports: [port({ port: 0 })] },
    [
      'spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive',
      'spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive',
    ],
  ],
  [
    { ports: [port()], sessionAffinity: 'Sticky' },
    ['spec.sessionAffinity: Unsupported value: "Sticky"'],
  ],
  [{ type: 'ExternalName' }, ['spec.externalName: Required value']],
];

test('what a service is refused for', () => {
  for (const [spec, expected] of REFUSED) {
    const errors = createErrors(service, serviceOf(spec));
    assert.equal(errors.length, expected.length, `${JSON.stringify(spec)}\n${errors.join('\n')}`);
    for (const [i, start] of expected.entries()) {
      assert.ok(errors[i]?.startsWith(start), `${errors[i]}\n  should start ${start}`);
    }
  }
});

test('what a service gets that it did not ask for', () => {
  const { spec } = asCreated<Service>(service, serviceOf({ ports: [port()] }));
  assert.equal(spec?.type, 'ClusterIP');
  assert.equal(spec?.sessionAffinity, 'None');
  assert.equal(spec?.internalTrafficPolicy, 'Cluster');
  assert.deepEqual(spec?.ports, [{ port: 80, protocol: 'TCP', targetPort: 80 }]);
});
