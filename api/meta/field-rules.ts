import type { FieldRule, FieldRules } from '#api/schema.ts';

/** A list that is replaced as a whole. */
export const atomicList: FieldRule = { listType: 'atomic' };
/** A list without order and duplicates; each item has its own owner. */
export const setList: FieldRule = { listType: 'set' };
/** An object or map that is replaced as a whole. */
export const atomicMap: FieldRule = { mapType: 'atomic' };
export const granularMap: FieldRule = { mapType: 'granular' };
/** Fields that are always written, with the zero value of their type. */
export const emptyText: FieldRule = { default: '' };
export const zero: FieldRule = { default: 0 };
export const no: FieldRule = { default: false };
export const struct: FieldRule = { default: {} };

/** Items with the same keys are the same item, for apply only. */
export const listMap = (...keys: string[]): FieldRule => ({ listType: 'map', listMapKeys: keys });

/** Items with the same keys are the same item; strategic merge goes by the first key alone. */
export const mergeMap = (first: string, ...more: string[]): FieldRule => ({
  listType: 'map',
  listMapKeys: [first, ...more],
  mergeKey: first,
  patchStrategy: 'merge',
});

/** The values of the field, or of each item where the field is a list. */
export const oneOf = (...values: string[]): FieldRule => ({ enum: values });

const REAL_TIME_SIGNALS = [
  ...Array.from({ length: 15 }, (_, i) => (i === 0 ? 'SIGRTMAX' : `SIGRTMAX-${i}`)),
  ...Array.from({ length: 16 }, (_, i) => (i === 0 ? 'SIGRTMIN' : `SIGRTMIN+${i}`)),
];

/** Names of signals that may stop a container. Source: core/v1 Signal. */
export const SIGNALS: readonly string[] = [
  'ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT',
  'STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ',
]
  .flatMap((line) => line.split(' ').map((name) => `SIG${name}`))
  .concat(REAL_TIME_SIGNALS)
  .sort();

export const stopSignals: FieldRule = { enum: SIGNALS };

/** Writes `{ Model: { field: rule } }` out as `Model.field`; the field '' is the type itself. */
export function rulesOf(
  models: Readonly<Record<string, Readonly<Record<string, FieldRule>>>>,
): FieldRules {
  const rules: Record<string, FieldRule> = {};
  for (const [model, fields] of Object.entries(models)) {
    for (const [field, rule] of Object.entries(fields)) {
      rules[field === '' ? model : `${model}.${field}`] = rule;
    }
  }
  return rules;
}
