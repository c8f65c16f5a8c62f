import { coreRules } from '#api/core/core-rules.ts';
import { event, EVENT_TTL_SECONDS, eventColumns } from '#api/core/event.ts';
import { validateNewStyleEvent, validateNewStyleUpdate } from '#api/core/event-validate.ts';
import { eventsRules } from '#api/events/events-rules.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { Event, KubeObject } from '#api/types.ts';

/** Fields of the same meaning under the newer name and the stored one. */
const RENAMED = [
  ['note', 'message'],
  ['regarding', 'involvedObject'],
  ['reportingController', 'reportingComponent'],
  ['deprecatedSource', 'source'],
  ['deprecatedFirstTimestamp', 'firstTimestamp'],
  ['deprecatedLastTimestamp', 'lastTimestamp'],
  ['deprecatedCount', 'count'],
] as const;

/** The stored names, for columns. */
export function toStoredEvent(object: KubeObject): KubeObject {
  const stored: KubeObject = { ...object, apiVersion: 'v1', kind: 'Event' };
  for (const [newer, older] of RENAMED) {
    delete stored[newer];
    if (object[newer] !== undefined) stored[older] = object[newer];
  }
  return stored;
}

function fromStoredEvent(stored: KubeObject): KubeObject {
  const object: KubeObject = { ...stored, apiVersion: 'events.k8s.io/v1', kind: 'Event' };
  for (const [newer, older] of RENAMED) {
    delete object[older];
    if (stored[older] !== undefined) object[newer] = stored[older];
  }
  if (object['reportingController'] === '') delete object['reportingController'];
  if (object['reportingInstance'] === '') delete object['reportingInstance'];
  return object;
}

/** Source: events.k8s.io/v1 Event. */
export const eventsEvent = defineKind({
  group: 'events.k8s.io',
  version: 'v1',
  kind: 'Event',
  plural: 'events',
  singular: 'event',
  shortNames: ['ev'],
  scope: 'Namespaced',
  createOnUpdate: true,
  schema: 'EventsV1Event',
  fieldRules: [eventsRules, coreRules, metaRules],
  generation: 'none',
  ttlSeconds: EVENT_TTL_SECONDS,
  storedAs: { kind: () => event, toStored: toStoredEvent, fromStored: fromStoredEvent },
  selectableFields: {
    reason: (object) => String(object['reason'] ?? ''),
    reportingController: (object) => String(object['reportingController'] ?? ''),
    type: (object) => String(object['type'] ?? ''),
    'regarding.kind': (object) => regarding(object, 'kind'),
    'regarding.namespace': (object) => regarding(object, 'namespace'),
    'regarding.name': (object) => regarding(object, 'name'),
    'regarding.uid': (object) => regarding(object, 'uid'),
    'regarding.apiVersion': (object) => regarding(object, 'apiVersion'),
    'regarding.resourceVersion': (object) => regarding(object, 'resourceVersion'),
    'regarding.fieldPath': (object) => regarding(object, 'fieldPath'),
  },
  nameColumn: false,
  ageColumn: false,
  columns: eventColumns.map((column) => ({
    ...column,
    value: (object, now) => column.value(toStoredEvent(object) as unknown as Event, now),
  })),
  defaults(object) {
    object['regarding'] ??= {};
    object['deprecatedSource'] ??= {};
    object['eventTime'] ??= null;
    object['deprecatedFirstTimestamp'] ??= null;
    object['deprecatedLastTimestamp'] ??= null;
  },
  // Errors name the stored fields, as upstream's do.
  validateCreate: (object) => validateNewStyleEvent(asStored(object)),
  validateUpdate: (object, old) => validateNewStyleUpdate(asStored(object), asStored(old)),
});

const asStored = (object: KubeObject): Event => toStoredEvent(object) as unknown as Event;

function regarding(object: KubeObject, field: string): string {
  const reference = (object['regarding'] ?? {}) as Record<string, unknown>;
  return String(reference[field] ?? '');
}
