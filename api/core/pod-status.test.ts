import assert from 'node:assert/strict';
import { test } from 'node:test';
import { validatePodStatusUpdate } from '#api/core/pod-status.ts';
import type { KubeObject, Pod } from '#api/types.ts';

test('what has ended stays ended, unless the pod may restart all its containers', () => {
  const status = (state: object) =>
    ({ containerStatuses: [{ name: 'a', state }] }) as NonNullable<Pod['status']>;
  const pod = (action: string, state: object): KubeObject => ({
    metadata: { name: 'p', namespace: 'd' },
    spec: {
      restartPolicy: 'Never',
      containers: [
        { name: 'a', image: 'i' },
        {
          name: 'b',
          image: 'i',
          restartPolicy: 'Never',
          restartPolicyRules: [{ action, exitCodes: { operator: 'In', values: [42] } }],
        },
      ],
    },
    status: status(state),
  });
  const errors = (action: string) =>
    validatePodStatusUpdate(
      pod(action, { running: {} }),
      pod(action, { terminated: { exitCode: 0 } }),
    ).length;
  assert.equal(errors('Restart'), 1);
  assert.equal(errors('RestartAllContainers'), 0);
});
