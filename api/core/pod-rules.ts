import { coreRules } from '#api/core/core-rules.ts';
import { podSpecRules } from '#api/core/pod-spec-rules.ts';
import { volumeRules } from '#api/core/volume-rules.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/** The field rules of everything that a pod template reaches. */
export const podRules: readonly FieldRules[] = [coreRules, podSpecRules, volumeRules, metaRules];
