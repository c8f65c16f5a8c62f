import type { Verb } from '#cli/verb.ts';
import { type ClientContext, type ClientFlags, clientFlags, withClient } from '#cli/context.ts';
import {
  formatObject,
  formatTable,
  type OutputFormat,
  outputFormat,
  type Table,
  TABLE_ACCEPT,
} from '#cli/output.ts';
import { type DiscoveredResource, discover, parseTargets } from '#cli/resources.ts';
import { collectionPath, objectPath } from '#client/http-api.ts';
import type { KubeList, KubeObject } from '#api/types.ts';

type Flags = ClientFlags & {
  allNamespaces?: boolean;
  selector?: string;
  fieldSelector?: string;
  output?: string;
  watch?: boolean;
  headers: boolean;
};

export const get: Verb = {
  name: 'get',
  summary: 'show one or many objects',
  configure(command) {
    clientFlags(command)
      .argument('<type...>', 'pods | pods NAME... | pod/NAME | pods,services | all')
      .option('-A, --all-namespaces', 'in every namespace')
      .option('-l, --selector <labels>', 'label selector')
      .option('--field-selector <fields>', 'field selector')
      .option('-o, --output <format>', 'wide, json, yaml or name')
      .option('-w, --watch', 'show changes as they happen')
      .option('--no-headers', 'no header line')
      .action((words: string[], flags: Flags) =>
        withClient(flags, (context) => run(context, words, flags)),
      );
  },
};

async function run(context: ClientContext, words: string[], flags: Flags): Promise<void> {
  const format = outputFormat(flags.output);
  const targets = parseTargets(await discover(context.api), words);
  const print = { context, flags, format, several: targets.length > 1 };
  let shown = 0;
  for (const { resource, names } of targets) {
    const paths =
      names.length > 0
        ? names.map((name) => objectPath(resource, { namespace: context.namespace, name }))
        : [listPath(context, resource, flags)];
    for (const path of paths) shown += await printPath(print, resource, path, names.length === 0);
  }
  if (shown === 0 && format !== 'json' && format !== 'yaml' && !flags.watch) {
    const where = flags.allNamespaces ? '' : ` in ${context.namespace} namespace`;
    console.error(`No resources found${targets.some((t) => t.resource.namespaced) ? where : ''}.`);
  }
  const [only] = targets;
  if (flags.watch && only) await printChanges(print, only.resource, only.names[0]);
}

function listPath(context: ClientContext, resource: DiscoveredResource, flags: Flags): string {
  const query = new URLSearchParams();
  if (flags.selector) query.set('labelSelector', flags.selector);
  if (flags.fieldSelector) query.set('fieldSelector', flags.fieldSelector);
  const namespace = flags.allNamespaces ? undefined : context.namespace;
  const text = query.toString();
  return collectionPath(resource, namespace) + (text ? `?${text}` : '');
}

type Print = {
  context: ClientContext;
  flags: Flags;
  format: OutputFormat;
  several: boolean;
};

/** Prints what is at a path; returns how many objects it showed. */
async function printPath(
  { context, flags, format, several }: Print,
  resource: DiscoveredResource,
  path: string,
  isList: boolean,
): Promise<number> {
  const asTable = format === 'table' || format === 'wide';
  const bytes = await context.api.raw(path, asTable ? { accept: TABLE_ACCEPT } : {});
  const answer: unknown = JSON.parse(Buffer.from(bytes).toString());
  if (format === 'json' || format === 'yaml') {
    process.stdout.write(await formatObject(answer, format));
    return 1;
  }
  if (format === 'name') {
    const objects = isList ? (answer as KubeList).items : [answer as KubeObject];
    for (const object of objects) console.log(`${typeName(resource)}/${object.metadata.name}`);
    return objects.length;
  }
  const table = answer as Table;
  if (table.rows.length === 0) return 0;
  process.stdout.write(
    formatTable(table, {
      wide: format === 'wide',
      namespaces: flags.allNamespaces === true && resource.namespaced,
      headers: flags.headers,
      ...(several ? { prefix: typeName(resource) } : {}),
    }),
  );
  if (several) console.log();
  return table.rows.length;
}

const typeName = (resource: DiscoveredResource): string =>
  (resource.singular || resource.resource) + (resource.group ? `.${resource.group}` : '');

async function printChanges(
  { context, flags }: Print,
  resource: DiscoveredResource,
  name: string | undefined,
): Promise<void> {
  const fields = [flags.fieldSelector, name ? `metadata.name=${name}` : ''].filter(Boolean);
  const events = context.api.watch(resource, {
    ...(flags.allNamespaces ? {} : { namespace: context.namespace }),
    ...(flags.selector ? { labelSelector: flags.selector } : {}),
    ...(fields.length > 0 ? { fieldSelector: fields.join(',') } : {}),
  });
  for await (const batch of events) {
    for (const event of batch) {
      if (event.type === 'BOOKMARK') continue;
      const { name: changed, namespace } = event.object.metadata;
      const row = await rowOf(context, resource, { namespace, name: changed ?? '' });
      console.log(`${event.type.padEnd(10)}${row ?? `${changed}`}`);
    }
  }
}

/** The object's table row as it is now; null when it is gone. */
async function rowOf(
  context: ClientContext,
  resource: DiscoveredResource,
  key: { namespace: string | undefined; name: string },
): Promise<string | null> {
  try {
    const path = objectPath(resource, { name: key.name, namespace: key.namespace });
    const bytes = await context.api.raw(path, { accept: TABLE_ACCEPT });
    const table = JSON.parse(Buffer.from(bytes).toString()) as Table;
    return formatTable(table, { wide: false, namespaces: false, headers: false }).trimEnd();
  } catch {
    // Deleted between the event and this read; its name is all there is to show.
    return null;
  }
}
