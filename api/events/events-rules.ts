import { rulesOf, struct, zero } from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of events lack (events): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const eventsRules: FieldRules = rulesOf({
  EventsV1Event: { deprecatedSource: struct, regarding: struct },
  EventsV1EventSeries: { count: zero },
});
