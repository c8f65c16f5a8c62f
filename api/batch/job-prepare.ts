import { defaultPodTemplate } from '#api/core/pod-defaults.ts';
import type { Job } from '#api/types.ts';
import { MAX_INT32, sameMeaning } from '#api/validate.ts';

const RETRIES = 6;

/** Source: batch/v1 JobSpec. */
export function defaultJob(object: Job): void {
  object.spec ??= {} as NonNullable<Job['spec']>;
  object.status ??= {};
  const { spec } = object;
  if (spec.completions === undefined && spec.parallelism === undefined) {
    spec.completions = 1;
    spec.parallelism = 1;
  }
  spec.parallelism ??= 1;
  // With a limit per index, the job as a whole need not have one.
  spec.backoffLimit ??= spec.backoffLimitPerIndex === undefined ? RETRIES : MAX_INT32;
  spec.completionMode ??= 'NonIndexed';
  spec.suspend ??= false;
  spec.podReplacementPolicy ??= spec.podFailurePolicy ? 'Failed' : 'TerminatingOrFailed';
  spec.manualSelector ??= false;
  for (const rule of spec.podFailurePolicy?.rules ?? []) {
    for (const pattern of rule.onPodConditions ?? []) {
      if (!pattern.status) pattern.status = 'True';
    }
  }
  spec.template ??= {};
  const { labels } = spec.template.metadata ?? {};
  if (labels && !Object.keys(object.metadata.labels ?? {}).length) {
    object.metadata.labels = { ...labels };
  }
  defaultPodTemplate(spec.template);
}

/** A job finds its pods by its own identity, unless its author chose a selector. */
export function prepareJob(object: Job): void {
  object.status = {};
  const { spec, metadata } = object;
  if (!spec || spec.manualSelector) return;
  const template = (spec.template.metadata ??= {});
  const shared = sameMeaning(metadata.labels ?? {}, template.labels ?? {});
  const { uid = '', name = '' } = metadata;
  template.labels = {
    ...template.labels,
    'controller-uid': uid,
    'job-name': name,
    'batch.kubernetes.io/controller-uid': uid,
    'batch.kubernetes.io/job-name': name,
  };
  spec.selector ??= {};
  spec.selector.matchLabels = {
    ...spec.selector.matchLabels,
    'batch.kubernetes.io/controller-uid': uid,
  };
  // A job without labels of its own carries its template's.
  if (shared) metadata.labels = { ...template.labels };
}
