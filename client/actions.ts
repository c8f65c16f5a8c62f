import { isStatusError } from '#api/status.ts';
import type { KubeObject, ObjectKey } from '#api/types.ts';
import type { Api, DeleteOptions, PatchBody, Resource } from '#client/api.ts';
import type { EventNote, EventRecorder } from '#client/events.ts';

/**
 * What a plan asks for. Plain data, so that plans can be compared in tests, printed for a user and
 * executed in one place.
 */
export type Action =
  | {
      type: 'create';
      resource: Resource;
      object: KubeObject;
      /** `ignore`: someone else made it first, and that is as good. Default: a failure. */
      ifExists?: 'ignore';
      announce?: Announce;
    }
  | {
      type: 'update';
      resource: Resource;
      object: KubeObject;
      subresource?: string;
      announce?: Announce;
    }
  | { type: 'updateStatus'; resource: Resource; object: KubeObject }
  | {
      type: 'patch';
      resource: Resource;
      key: ObjectKey;
      patch: PatchBody;
      subresource?: string;
      announce?: Announce;
    }
  | {
      type: 'delete';
      resource: Resource;
      key: ObjectKey;
      /** Precondition: another object under the same name is left alone. */
      uid?: string;
      resourceVersion?: string;
      propagationPolicy?: NonNullable<DeleteOptions['propagationPolicy']>;
      gracePeriodSeconds?: number;
      announce?: Announce;
    }
  | { type: 'deleteCollection'; resource: Resource; namespace: string }
  /** POST to a subresource whose body is another kind: eviction, binding. */
  | { type: 'post'; resource: Resource; key: ObjectKey; subresource: string; body: unknown }
  | { type: 'event'; about: KubeObject; note: EventNote }
  /** At the same time; all are tried, however many fail. */
  | { type: 'together'; actions: readonly Action[] }
  /** In batches of 1, 2, 4, ...; after a failing batch the rest is not tried. */
  | { type: 'slowStart'; actions: readonly Action[] };

/** Events told after an action. `{name}` and `{error}` in messages are filled in. */
export type Announce = { about: KubeObject; success?: EventNote; failure?: EventNote };

export type Failure = { action: Action; error: unknown };

/** Traces of our own writes, for the consistency gate. */
export type Written =
  | { resource: Resource; resourceVersion: string }
  | { resource: Resource; deleted: ObjectKey; uid: string };

export type Outcome = {
  /** Empty: everything asked for has happened. */
  failures: Failure[];
  written: Written[];
  /** How many actions were not tried because an earlier one failed. */
  skipped: number;
};

export type ExecuteOptions = { api: Api; recorder: EventRecorder; signal?: AbortSignal };

/** Most calls in flight for one action that holds others. */
const MAX_IN_FLIGHT = 32;

/** Does actions in order; the first failure ends the row. Never throws for a failing call. */
export async function execute(
  actions: readonly Action[],
  options: ExecuteOptions,
): Promise<Outcome> {
  const outcome: Outcome = { failures: [], written: [], skipped: 0 };
  for (const [index, action] of actions.entries()) {
    await executeInto(outcome, action, options);
    if (outcome.failures.length > 0) {
      outcome.skipped += actions.length - index - 1;
      break;
    }
  }
  return outcome;
}

async function executeInto(
  outcome: Outcome,
  action: Action,
  options: ExecuteOptions,
): Promise<void> {
  if (action.type === 'together') {
    await inGroups(outcome, action.actions, options, { first: MAX_IN_FLIGHT, stop: false });
    return;
  }
  if (action.type === 'slowStart') {
    await inGroups(outcome, action.actions, options, { first: 1, stop: true });
    return;
  }
  try {
    outcome.written.push(...(await call(action, options)));
  } catch (error) {
    options.signal?.throwIfAborted();
    if (isHarmless(action, error)) return;
    outcome.failures.push({ action, error });
    announce(action, options.recorder, { error });
  }
}

/** `first` calls at once, doubling after each group when `stop` is set (slow start). */
async function inGroups(
  outcome: Outcome,
  actions: readonly Action[],
  options: ExecuteOptions,
  { first, stop }: { first: number; stop: boolean },
): Promise<void> {
  let size = first;
  for (let start = 0; start < actions.length; ) {
    const group = actions.slice(start, start + size);
    const failuresBefore = outcome.failures.length;
    await Promise.all(group.map((action) => executeInto(outcome, action, options)));
    start += group.length;
    if (!stop) continue;
    if (outcome.failures.length > failuresBefore) {
      outcome.skipped += actions.length - start;
      return;
    }
    size = Math.min(size * 2, MAX_IN_FLIGHT);
  }
}

type SimpleAction = Exclude<Action, { type: 'together' | 'slowStart' }>;

async function call(action: SimpleAction, options: ExecuteOptions): Promise<Written[]> {
  const { api, recorder, signal } = options;
  switch (action.type) {
    case 'create': {
      const made = await api.create(action.resource, action.object, { signal });
      announce(action, recorder, { name: made.metadata.name ?? '' });
      return written(action.resource, made);
    }
    case 'update': {
      const { subresource } = action;
      const write = { signal, ...(subresource ? { subresource } : {}) };
      const made = await api.update(action.resource, action.object, write);
      announce(action, recorder, { name: made.metadata.name ?? '' });
      return written(action.resource, made);
    }
    case 'updateStatus': {
      const write = { subresource: 'status', signal };
      return written(action.resource, await api.update(action.resource, action.object, write));
    }
    case 'patch': {
      const { subresource } = action;
      const write = { signal, ...(subresource ? { subresource } : {}) };
      const made = await api.patch(action.resource, action.key, action.patch, write);
      announce(action, recorder, { name: action.key.name });
      return written(action.resource, made);
    }
    case 'delete':
      return remove(action, options);
    case 'deleteCollection': {
      await api.deleteCollection(action.resource, { namespace: action.namespace, signal });
      return [];
    }
    case 'post':
      await api.post(action.resource, action.key, action.subresource, action.body, { signal });
      return [];
    case 'event':
      recorder.record(action.about, action.note);
      return [];
  }
}

async function remove(
  action: Extract<Action, { type: 'delete' }>,
  { api, recorder, signal }: ExecuteOptions,
): Promise<Written[]> {
  const { resource, key, uid, resourceVersion, propagationPolicy, gracePeriodSeconds } = action;
  const left = await api.delete(resource, key, {
    signal,
    ...(propagationPolicy ? { propagationPolicy } : {}),
    ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
    preconditions: { ...(uid ? { uid } : {}), ...(resourceVersion ? { resourceVersion } : {}) },
  });
  announce(action, recorder, { name: key.name });
  if (left?.metadata.deletionTimestamp) return written(resource, left);
  return uid ? [{ resource, deleted: key, uid }] : [];
}

function written(resource: Resource, object: KubeObject): Written[] {
  const resourceVersion = object.metadata.resourceVersion ?? '';
  return resourceVersion ? [{ resource, resourceVersion }] : [];
}

/** Failures that mean the wish is fulfilled, or can never be and need not be. */
function isHarmless(action: SimpleAction, error: unknown): boolean {
  if (!isStatusError(error)) return false;
  switch (action.type) {
    case 'create':
      return action.ifExists === 'ignore' && error.reason === 'AlreadyExists';
    case 'delete':
      // With a uid precondition a conflict says that ours is gone already.
      return (
        error.reason === 'NotFound' || (error.reason === 'Conflict' && action.uid !== undefined)
      );
    case 'deleteCollection':
    case 'patch':
    case 'post':
      return error.reason === 'NotFound';
    case 'update':
    case 'updateStatus':
    case 'event':
      return false;
  }
}

/** A namespace that is going away takes nothing new: no reason to complain, nor to try again. */
export function isNamespaceTerminating(error: unknown): boolean {
  if (!isStatusError(error, 'Forbidden')) return false;
  return error.status.details?.causes?.some((c) => c.reason === 'NamespaceTerminating') ?? false;
}

function announce(
  action: SimpleAction,
  recorder: EventRecorder,
  result: { name: string } | { error: unknown },
): void {
  if (!('announce' in action) || !action.announce) return;
  const { about, success, failure } = action.announce;
  const note = 'error' in result ? failure : success;
  if (!note || ('error' in result && isNamespaceTerminating(result.error))) return;
  const message =
    'error' in result
      ? note.message.replace('{error}', messageOf(result.error))
      : note.message.replace('{name}', result.name);
  recorder.record(about, { ...note, message });
}

const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);

/** One line per action, for `explain` and for logs. */
export function describeAction(action: Action): string {
  switch (action.type) {
    case 'create': {
      const { name, generateName, namespace } = action.object.metadata;
      return `create ${at(action.resource, { namespace, name: name ?? `${generateName}*` })}`;
    }
    case 'update':
      return `update ${at(action.resource, keyOf(action.object))}`;
    case 'updateStatus':
      return `update status of ${at(action.resource, keyOf(action.object))}`;
    case 'patch': {
      const of = action.subresource ? ` ${action.subresource} of` : '';
      return `patch${of} ${at(action.resource, action.key)}: ${JSON.stringify(action.patch.body)}`;
    }
    case 'delete':
      return `delete ${at(action.resource, action.key)}`;
    case 'deleteCollection':
      return `delete all ${action.resource.resource} in ${action.namespace}`;
    case 'post':
      return `${action.subresource} of ${at(action.resource, action.key)}`;
    case 'event':
      return `say ${action.note.reason}: ${action.note.message}`;
    case 'together':
      return `at once: ${action.actions.map(describeAction).join('; ')}`;
    case 'slowStart':
      return `step by step: ${action.actions.map(describeAction).join('; ')}`;
  }
}

const keyOf = (object: KubeObject): ObjectKey => ({
  namespace: object.metadata.namespace,
  name: object.metadata.name ?? '',
});

const at = (resource: Resource, key: ObjectKey): string =>
  `${resource.resource} ${key.namespace ? `${key.namespace}/` : ''}${key.name}`;
