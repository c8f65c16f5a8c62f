import assert from 'node:assert/strict';
import { test } from 'node:test';
import { horizontalPodAutoscaler } from '#api/autoscaling/horizontal-pod-autoscaler.ts';
import { horizontalPodAutoscalerV1 } from '#api/autoscaling/hpa-v1.ts';
import { asCreated, createErrors } from '#api/kind-probe.ts';
import type { HorizontalPodAutoscaler } from '#api/types.ts';

const scaleTargetRef = { apiVersion: 'apps/v1', kind: 'Deployment', name: 'd' };
const hpa = (spec: object) => ({ metadata: { name: 'h' }, spec: { scaleTargetRef, ...spec } });
const view = horizontalPodAutoscalerV1.storedAs;

const metric = (name: string, averageUtilization: number) => ({
  type: 'Resource',
  resource: { name, target: { type: 'Utilization', averageUtilization } },
});

test('the older view keeps what it has no fields for', () => {
  const behavior = { scaleDown: { stabilizationWindowSeconds: 60 } };
  const stored = asCreated<HorizontalPodAutoscaler>(
    horizontalPodAutoscaler,
    hpa({ maxReplicas: 3, behavior, metrics: [metric('memory', 70), metric('cpu', 50)] }),
  );
  const old = view?.fromStored(structuredClone(stored)) as unknown as HorizontalPodAutoscaler;
  const spec = old.spec as unknown as Record<string, unknown>;
  assert.equal(spec['targetCPUUtilizationPercentage'], 50);
  assert.equal(spec['metrics'], undefined);
  const again = view?.toStored(structuredClone(old)) as unknown as HorizontalPodAutoscaler;
  assert.equal(again.metadata.annotations, undefined);
  assert.deepEqual(again.spec?.behavior, stored.spec?.behavior);
  const names = again.spec?.metrics?.map((one) => one.resource?.name);
  assert.deepEqual(names?.toSorted(), ['cpu', 'memory']);
});

test('errors name the fields that are stored', () => {
  const errors = createErrors(horizontalPodAutoscaler, hpa({ maxReplicas: 0 }));
  assert.match(errors[0] ?? '', /^spec\.maxReplicas: /);
  assert.deepEqual(createErrors(horizontalPodAutoscalerV1, hpa({ maxReplicas: 2 })), []);
});
