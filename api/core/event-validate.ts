import { invalid, required } from '#api/field-error.ts';
import type { Event } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import {
  checkImmutable,
  checkImmutableAs,
  checkQualifiedName,
  checkSubdomain,
} from '#api/validate.ts';

const MAX_SHORT = 128;
const MAX_NOTE = 1024;
const WRONG_NAMESPACE = 'does not match event.namespace';

const checkLength = (errors: Errors, path: string, text: string, max: number): void => {
  if (Buffer.byteLength(text) > max) {
    errors.push(invalid(path, '', `can have at most ${max} characters`));
  }
};

/** What every event has to say, by either API. Source: core/v1 Event. */
export function validateEvent(event: Event): Errors {
  const errors: Errors = [];
  const { namespace = '' } = event.metadata;
  const about = event.involvedObject?.namespace ?? '';
  const path = 'involvedObject.namespace';
  if (!event.eventTime) {
    const fits = about ? about === namespace : namespace === '' || namespace === 'default';
    if (!fits) errors.push(invalid(path, about, WRONG_NAMESPACE));
  } else {
    if (!about && namespace !== 'default' && namespace !== 'kube-system') {
      errors.push(invalid(path, about, WRONG_NAMESPACE));
    }
    checkReporter(errors, event);
  }
  checkSubdomain(errors, 'namespace', namespace);
  return errors;
}

function checkReporter(errors: Errors, event: Event): void {
  const { reportingComponent = '', reportingInstance = '', action = '', reason = '' } = event;
  if (!reportingComponent) errors.push(required('reportingController'));
  checkQualifiedName(errors, 'reportingController', reportingComponent);
  if (!reportingInstance) errors.push(required('reportingInstance'));
  checkLength(errors, 'reportingInstance', reportingInstance, MAX_SHORT);
  if (!action) errors.push(required('action'));
  checkLength(errors, 'action', action, MAX_SHORT);
  if (!reason) errors.push(required('reason'));
  checkLength(errors, 'reason', reason, MAX_SHORT);
  checkLength(errors, 'message', event.message ?? '', MAX_NOTE);
}

/** Events written by events.k8s.io have no field from before it. */
export function validateNewStyleEvent(event: Event): Errors {
  const errors = validateEvent(event);
  checkSeries(errors, event);
  if (!event.eventTime) errors.push(required('eventTime'));
  if (event.type !== 'Normal' && event.type !== 'Warning') {
    errors.push(invalid('type', '', `has invalid value: ${event.type ?? ''}`));
  }
  const unset = 'needs to be unset';
  if (event.firstTimestamp) errors.push(invalid('firstTimestamp', '', unset));
  if (event.lastTimestamp) errors.push(invalid('lastTimestamp', '', unset));
  if (event.count) errors.push(invalid('count', '', unset));
  if (event.source?.component || event.source?.host) errors.push(invalid('source', '', unset));
  return errors;
}

function checkSeries(errors: Errors, { series }: Event): void {
  if (!series) return;
  if ((series.count ?? 0) < 2) errors.push(invalid('series.count', '', 'should be at least 2'));
  if (!series.lastObservedTime) errors.push(required('series.lastObservedTime'));
}

/** Only how often an event has happened may change. */
const FIXED = [
  ['involvedObject', 'involvedObject', 'ObjectReference'],
  ['reason', 'reason'],
  ['message', 'message'],
  ['source', 'source', 'EventSource'],
  ['firstTimestamp', 'firstTimestamp'],
  ['lastTimestamp', 'lastTimestamp'],
  ['count', 'count'],
  ['type', 'type'],
  ['eventTime', 'eventTime'],
  ['action', 'action'],
  ['related', 'related', 'ObjectReference'],
  ['reportingComponent', 'reportingController'],
  ['reportingInstance', 'reportingInstance'],
] as const;

export function validateNewStyleUpdate(event: Event, old: Event): Errors {
  const errors = validateEvent(event);
  if (JSON.stringify(event.series ?? null) !== JSON.stringify(old.series ?? null)) {
    checkSeries(errors, event);
  }
  for (const [field, path, type] of FIXED) {
    if (type === undefined) checkImmutable(errors, path, event[field], old[field]);
    else checkImmutableAs(errors, [path, type], event[field], old[field]);
  }
  return errors;
}
