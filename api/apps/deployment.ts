import { appsRules } from '#api/apps/apps-rules.ts';
import { defaultPodTemplate } from '#api/core/pod-defaults.ts';
import { podRules } from '#api/core/pod-rules.ts';
import { defineKind } from '#api/kind.ts';
import { AGE, selectorColumn, templateColumns, text } from '#api/meta/columns.ts';
import { ownedStatus, SCALE, STATUS } from '#api/meta/status-part.ts';
import type { Deployment, PodTemplateSpec } from '#api/types.ts';

const QUARTER = '25%';

/** Source: apps/v1 Deployment. */
export const deployment = defineKind<Deployment>({
  group: 'apps',
  version: 'v1',
  kind: 'Deployment',
  plural: 'deployments',
  singular: 'deployment',
  shortNames: ['deploy'],
  categories: ['all'],
  scope: 'Namespaced',
  schema: 'V1Deployment',
  fieldRules: [appsRules, ...podRules],
  generation: 'spec',
  subresources: { status: STATUS, scale: SCALE },
  ageColumn: false,
  columns: [
    text('Ready', (object) => `${object.status?.readyReplicas ?? 0}/${object.spec?.replicas ?? 0}`),
    count('Up-to-date', (object) => object.status?.updatedReplicas),
    count('Available', (object) => object.status?.availableReplicas),
    AGE,
    ...templateColumns<Deployment>((object) => object.spec?.template as PodTemplateSpec),
    selectorColumn<Deployment>((object) => object.spec?.selector),
  ],
  ...ownedStatus(),

  defaults(object) {
    object.spec ??= {} as NonNullable<Deployment['spec']>;
    object.status ??= {};
    const { spec } = object;
    spec.replicas ??= 1;
    spec.revisionHistoryLimit ??= 10;
    spec.progressDeadlineSeconds ??= 600;
    spec.strategy ??= {};
    if (!spec.strategy.type) spec.strategy.type = 'RollingUpdate';
    if (spec.strategy.type === 'RollingUpdate') {
      spec.strategy.rollingUpdate ??= {};
      spec.strategy.rollingUpdate.maxUnavailable ??= QUARTER;
      spec.strategy.rollingUpdate.maxSurge ??= QUARTER;
    }
    spec.template ??= {};
    defaultPodTemplate(spec.template);
  },
});

function count(name: string, value: (object: Deployment) => number | undefined) {
  return {
    name,
    type: 'string' as const,
    value: (object: Deployment): number => value(object) ?? 0,
  };
}
