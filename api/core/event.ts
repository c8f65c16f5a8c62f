import { coreRules } from '#api/core/core-rules.ts';
import { validateEvent } from '#api/core/event-validate.ts';
import type { Column } from '#api/kind.ts';
import { defineKind } from '#api/kind.ts';
import { integer, text, wide } from '#api/meta/columns.ts';
import { humanAge } from '#api/meta/duration.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { Event } from '#api/types.ts';

/** Events are news, not records. */
export const EVENT_TTL_SECONDS = 3600;

export const eventColumns: readonly Column<Event>[] = [
  text(
    'Last Seen',
    (object, now) =>
      humanAge(object.series?.lastObservedTime ?? object.lastTimestamp ?? firstSeen(object), now),
    'CoreV1Event.lastTimestamp',
  ),
  text('Type', (object) => object.type ?? '', 'CoreV1Event.type'),
  text('Reason', (object) => object.reason ?? '', 'CoreV1Event.reason'),
  text(
    'Object',
    ({ involvedObject }) => {
      const kind = (involvedObject?.kind ?? '').toLowerCase();
      return involvedObject?.name ? `${kind}/${involvedObject.name}` : kind;
    },
    'The object that this event is about.',
  ),
  wide(
    text(
      'Subobject',
      (object) => object.involvedObject?.fieldPath ?? '',
      'V1ObjectReference.fieldPath',
    ),
  ),
  wide(
    text(
      'Source',
      source,
      'The component reporting this event. Should be a short machine understandable string.',
    ),
  ),
  text('Message', (object) => (object.message ?? '').trim(), 'CoreV1Event.message'),
  wide(
    text(
      'First Seen',
      (object, now) => humanAge(firstSeen(object), now),
      'CoreV1Event.firstTimestamp',
    ),
  ),
  wide({ ...integer<Event>('Count', count, 'CoreV1Event.count'), type: 'string' }),
  wide({
    ...text<Event>('Name', (object) => object.metadata.name ?? '', 'V1ObjectMeta.name'),
    format: 'name',
  }),
];

export const eventFields: Readonly<Record<string, (object: Event) => string>> = {
  'involvedObject.kind': (object) => object.involvedObject?.kind ?? '',
  'involvedObject.namespace': (object) => object.involvedObject?.namespace ?? '',
  'involvedObject.name': (object) => object.involvedObject?.name ?? '',
  'involvedObject.uid': (object) => object.involvedObject?.uid ?? '',
  'involvedObject.apiVersion': (object) => object.involvedObject?.apiVersion ?? '',
  'involvedObject.resourceVersion': (object) => object.involvedObject?.resourceVersion ?? '',
  'involvedObject.fieldPath': (object) => object.involvedObject?.fieldPath ?? '',
  reason: (object) => object.reason ?? '',
  reportingComponent: (object) => object.reportingComponent ?? '',
  source: (object) => object.source?.component || object.reportingComponent || '',
  type: (object) => object.type ?? '',
};

/** What is stored, also for events.k8s.io. Source: core/v1 Event. */
export const event = defineKind<Event>({
  group: '',
  version: 'v1',
  kind: 'Event',
  plural: 'events',
  singular: 'event',
  shortNames: ['ev'],
  scope: 'Namespaced',
  createOnUpdate: true,
  schema: 'CoreV1Event',
  fieldRules: [coreRules, metaRules],
  generation: 'none',
  ttlSeconds: EVENT_TTL_SECONDS,
  selectableFields: eventFields,
  nameColumn: false,
  ageColumn: false,
  columns: eventColumns,
  defaults: defaultEvent,
  validate: validateEvent,
});

/** Core events always show these fields, times as null while unknown. */
export function defaultEvent(object: Event): void {
  const shown = object as unknown as Record<string, unknown>;
  shown['involvedObject'] ??= {};
  shown['source'] ??= {};
  shown['firstTimestamp'] ??= null;
  shown['lastTimestamp'] ??= null;
  shown['eventTime'] ??= null;
  shown['reportingComponent'] ??= '';
  shown['reportingInstance'] ??= '';
}

const firstSeen = (object: Event): string | undefined =>
  object.firstTimestamp ?? object.eventTime ?? undefined;

function count(object: Event): number {
  return object.series?.count ?? (object.count || 1);
}

function source(object: Event): string {
  const component = object.source?.component || object.reportingComponent || '';
  const instance = object.source?.host || object.reportingInstance || '';
  return instance ? `${component}, ${instance}` : component;
}
