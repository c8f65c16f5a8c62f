import { autoscalingRules } from '#api/autoscaling/autoscaling-rules.ts';
import { hpaColumns } from '#api/autoscaling/hpa-columns.ts';
import { defaultHpa } from '#api/autoscaling/hpa-defaults.ts';
import { validateHpa, validateHpaStatus } from '#api/autoscaling/hpa-validate.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { ownedStatus } from '#api/meta/status-part.ts';
import type { HorizontalPodAutoscaler } from '#api/types.ts';

/** What is stored, also for v1. Source: autoscaling/v2 HorizontalPodAutoscaler. */
export const horizontalPodAutoscaler = defineKind<HorizontalPodAutoscaler>({
  group: 'autoscaling',
  version: 'v2',
  kind: 'HorizontalPodAutoscaler',
  plural: 'horizontalpodautoscalers',
  singular: 'horizontalpodautoscaler',
  shortNames: ['hpa'],
  categories: ['all'],
  scope: 'Namespaced',
  schema: 'V2HorizontalPodAutoscaler',
  fieldRules: [autoscalingRules, metaRules],
  generation: 'none',
  subresources: { status: { type: 'status', validateUpdate: validateHpaStatus } },
  columns: hpaColumns,
  ...ownedStatus({ desiredReplicas: 0, currentMetrics: null }),
  defaults: defaultHpa,
  validate: validateHpa,
});
