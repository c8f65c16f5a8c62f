import type { Verb } from '#cli/verb.ts';
import { UserError } from '#cli/verb.ts';
import { type ClientContext, type ClientFlags, clientFlags, withClient } from '#cli/context.ts';
import { readManifests } from '#cli/manifest.ts';
import { type DiscoveredResource, discover, parseTargets, resourceOfKind } from '#cli/resources.ts';
import { isStatusError } from '#api/status.ts';
import type { ObjectKey } from '#api/types.ts';

type Flags = ClientFlags & {
  filename?: string[];
  recursive?: boolean;
  selector?: string;
  all?: boolean;
  gracePeriod?: string;
  ignoreNotFound?: boolean;
  wait: boolean;
};

type Doomed = { resource: DiscoveredResource; key: ObjectKey };

export const del: Verb = {
  name: 'delete',
  summary: 'delete objects and wait until they are gone',
  configure(command) {
    clientFlags(command)
      .argument('[type...]', 'pod NAME... | pod/NAME')
      .option('-f, --filename <file...>', 'manifest file, folder, or -')
      .option('-R, --recursive', 'folders within folders too')
      .option('-l, --selector <labels>', 'those with these labels')
      .option('--all', 'every object of the type in the namespace')
      .option('--grace-period <seconds>', 'seconds a pod may take to end')
      .option('--ignore-not-found', 'no error for what is not there')
      .option('--no-wait', 'return at once')
      .action((words: string[], flags: Flags) =>
        withClient(flags, (context) => run(context, words, flags)),
      );
  },
};

async function run(context: ClientContext, words: string[], flags: Flags): Promise<void> {
  const doomed = await findDoomed(context, words, flags);
  const grace = flags.gracePeriod === undefined ? undefined : Number(flags.gracePeriod);
  if (grace !== undefined && !(Number.isInteger(grace) && grace >= 0)) {
    throw new UserError(`--grace-period takes whole seconds, not "${flags.gracePeriod}"`);
  }
  const failures: string[] = [];
  const waiting: Doomed[] = [];
  for (const { resource, key } of doomed) {
    const title = `${resource.singular || resource.resource} "${key.name}"`;
    try {
      await context.api.delete(resource, key, {
        propagationPolicy: 'Background',
        ...(grace === undefined ? {} : { gracePeriodSeconds: grace }),
      });
      console.log(`${title} deleted`);
      waiting.push({ resource, key });
    } catch (error) {
      if (!isStatusError(error)) throw error;
      if (error.reason !== 'NotFound' || !flags.ignoreNotFound) failures.push(error.message);
    }
  }
  if (flags.wait) for (const item of waiting) await untilGone(context, item);
  if (failures.length > 0) throw new UserError(failures.join('\n'));
}

async function findDoomed(
  context: ClientContext,
  words: string[],
  flags: Flags,
): Promise<Doomed[]> {
  const known = await discover(context.api);
  const keyOf = (resource: DiscoveredResource, name: string, namespace?: string): ObjectKey => ({
    name,
    namespace: resource.namespaced ? (namespace ?? context.namespace) : undefined,
  });
  if (flags.filename) {
    return readManifests(flags.filename, flags.recursive)
      .reverse()
      .map(({ object }) => {
        const resource = resourceOfKind(known, object.apiVersion ?? '', object.kind ?? '');
        if (!resource) throw new UserError(`the server has no kind "${object.kind}"`);
        return {
          resource,
          key: keyOf(resource, object.metadata.name ?? '', object.metadata.namespace),
        };
      });
  }
  const targets = parseTargets(known, words);
  const doomed: Doomed[] = [];
  for (const { resource, names } of targets) {
    if (names.length === 0 && !flags.all && flags.selector === undefined) {
      throw new UserError(`name the ${resource.resource} to delete, or use -l LABELS or --all`);
    }
    for (const name of names) doomed.push({ resource, key: keyOf(resource, name) });
    if (names.length === 0) {
      const list = await context.api.list(resource, {
        ...(resource.namespaced ? { namespace: context.namespace } : {}),
        ...(flags.selector ? { labelSelector: flags.selector } : {}),
      });
      for (const item of list.items)
        doomed.push({ resource, key: keyOf(resource, item.metadata.name ?? '') });
    }
  }
  return doomed;
}

/** Watches one object until it is gone. */
async function untilGone({ api }: ClientContext, { resource, key }: Doomed): Promise<void> {
  const where = {
    ...(key.namespace === undefined ? {} : { namespace: key.namespace }),
    fieldSelector: `metadata.name=${key.name}`,
  };
  const list = await api.list(resource, where);
  if (list.items.length === 0) return;
  const options = { ...where, resourceVersion: list.metadata.resourceVersion ?? '' };
  for await (const batch of api.watch(resource, options)) {
    if (batch.some((event) => event.type === 'DELETED')) return;
  }
}
