import { defaultPodTemplate } from '#api/core/pod-defaults.ts';
import { podRules } from '#api/core/pod-rules.ts';
import { checkPodTemplate } from '#api/core/pod-validate.ts';
import { templateWarnings } from '#api/core/pod-warnings.ts';
import { defineKind } from '#api/kind.ts';
import { formatMap, templateColumns, text } from '#api/meta/columns.ts';
import type { PodTemplate } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';

/** Source: core/v1 PodTemplate. */
export const podTemplate = defineKind<PodTemplate>({
  group: '',
  version: 'v1',
  kind: 'PodTemplate',
  plural: 'podtemplates',
  singular: 'podtemplate',
  scope: 'Namespaced',
  schema: 'V1PodTemplate',
  fieldRules: podRules,
  generation: 'spec',
  returnsDeleted: true,
  ageColumn: false,
  columns: [
    ...templateColumns<PodTemplate>((object) => object.template).map((column) => ({
      ...column,
      priority: 0,
    })),
    text(
      'Pod Labels',
      (object) => formatMap(object.template?.metadata?.labels),
      'The labels for the pod template.',
    ),
  ],

  defaults(object) {
    object.template ??= {};
    defaultPodTemplate(object.template);
  },
  warnings: (object, old) => templateWarnings('template', object.template, old?.template),
  validate(object) {
    const errors: Errors = [];
    if (object.template) checkPodTemplate(errors, 'template', object.template);
    return errors;
  },
});
