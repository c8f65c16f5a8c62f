import { setTimeout as nextTurn } from 'node:timers/promises';
import type { Kind } from '#api/kind.ts';
import { isStatusError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type { HandlerContext, WriteAs } from '#apiserver/subresources/handler.ts';

/** What the steps of bootstrap.ts get: the objects of a server that serves, or is about to. */
export type BootstrapContext = Pick<HandlerContext, 'scheme' | 'reader' | 'resources' | 'log'> & {
  signal: AbortSignal;
};

/** The server itself, when it writes the objects that a cluster is born with. */
export const SERVER_USER = {
  name: 'system:apiserver',
  groups: ['system:masters', 'system:authenticated'],
} as const;

export const writeAsServer = (context: { signal: AbortSignal }): WriteAs => ({
  user: SERVER_USER,
  signal: context.signal,
  fieldManager: 'kube-apiserver',
});

/** A built-in kind by its place in the API; throws when the scheme lacks it: a broken build. */
export function kindOf(
  context: Pick<HandlerContext, 'scheme'>,
  group: string,
  version: string,
  resource: string,
): Kind {
  const kind = context.scheme.byResource(group, version, resource);
  if (!kind) throw new Error(`no kind for ${resource} in ${group || 'core'}/${version}`);
  return kind;
}

/** Writes in flight at once: they share the store's commits, and the event loop stays free. */
const MAX_IN_FLIGHT = 64;

/** Runs the tasks, a bounded number at once; rejects with the first failure. */
export async function runBounded(tasks: readonly (() => Promise<void>)[]): Promise<void> {
  for (let start = 0; start < tasks.length; start += MAX_IN_FLIGHT) {
    await Promise.all(tasks.slice(start, start + MAX_IN_FLIGHT).map((task) => task()));
    await nextTurn(0);
  }
}

/** Creates an object unless it exists: what users have made of it stays. */
export async function createIfAbsent(
  context: BootstrapContext,
  kind: Kind,
  object: KubeObject,
): Promise<void> {
  const { namespace, name = '' } = object.metadata;
  if (context.reader.get(kind.group, kind.plural, { namespace, name })) return;
  try {
    await context.resources.create(kind, object, writeAsServer(context));
  } catch (error) {
    // Another API server on the same store may have been faster, also with what a service needs.
    const isThere = context.reader.get(kind.group, kind.plural, { namespace, name }) !== undefined;
    if (!isThere && !isStatusError(error, 'AlreadyExists')) throw error;
  }
}
