import type { Verb } from '#cli/verb.ts';
import { type ClientContext, type ClientFlags, clientFlags, withClient } from '#cli/context.ts';
import { age, formatRows } from '#cli/output.ts';
import { type DiscoveredResource, discover, parseTargets } from '#cli/resources.ts';
import { events } from '#client/resources.ts';
import type { KubeObject } from '#api/types.ts';

type Flags = ClientFlags & { selector?: string };

export const describe: Verb = {
  name: 'describe',
  summary: 'show an object in full, with its events',
  configure(command) {
    clientFlags(command)
      .argument('<target...>', 'pod/NAME or pod NAME')
      .option('-l, --selector <labels>', 'those with these labels')
      .action((words: string[], flags: Flags) =>
        withClient(flags, async (context) => {
          for (const { resource, names } of parseTargets(await discover(context.api), words)) {
            for (const object of await objects(context, resource, names, flags)) {
              process.stdout.write(await description(context, object));
            }
          }
        }),
      );
  },
};

async function objects(
  { api, namespace }: ClientContext,
  resource: DiscoveredResource,
  names: string[],
  flags: Flags,
): Promise<KubeObject[]> {
  if (names.length > 0) {
    return Promise.all(names.map((name) => api.get(resource, { namespace, name })));
  }
  const list = await api.list(resource, {
    ...(resource.namespaced ? { namespace } : {}),
    ...(flags.selector ? { labelSelector: flags.selector } : {}),
  });
  return list.items.map((item) => ({ ...item, kind: resource.kind }));
}

async function description({ api }: ClientContext, object: KubeObject): Promise<string> {
  const { metadata } = object;
  const head = Object.entries({
    Name: metadata.name,
    Namespace: metadata.namespace,
    Kind: object.kind,
    Created: `${metadata.creationTimestamp} (${age(metadata.creationTimestamp, Date.now())} ago)`,
    Labels: pairs(metadata.labels),
    Annotations: pairs(metadata.annotations),
    'Controlled by': metadata.ownerReferences?.map((o) => `${o.kind}/${o.name}`).join(', '),
    Deleting: metadata.deletionTimestamp,
  }).filter(([, value]) => value !== undefined && value !== '');
  const rest = Object.entries(object).filter(
    ([field]) => !['apiVersion', 'kind', 'metadata'].includes(field),
  );
  const { items } = await api.list(events, {
    ...(metadata.namespace ? { namespace: metadata.namespace } : {}),
    fieldSelector: `involvedObject.uid=${metadata.uid}`,
  });
  const happened = items.map((e) => [
    `  ${e.type ?? ''}`,
    e.reason ?? '',
    age(e.lastTimestamp ?? e.eventTime ?? e.metadata.creationTimestamp, Date.now()),
    e.source?.component ?? e.reportingComponent ?? '',
    e.message ?? '',
  ]);
  return [
    formatRows(head.map(([name, value]) => [`${name}:`, String(value)])),
    ...rest.map(([field, value]) => `${title(field)}:\n${tree(value, '  ')}`),
    happened.length === 0
      ? 'Events: <none>\n'
      : `Events:\n${formatRows([['  TYPE', 'REASON', 'AGE', 'FROM', 'MESSAGE'], ...happened])}`,
    '\n',
  ].join('');
}

const pairs = (map: Record<string, string> | undefined): string | undefined =>
  map && Object.keys(map).length > 0
    ? Object.entries(map)
        .filter(([key]) => key !== 'kubectl.kubernetes.io/last-applied-configuration')
        .map(([key, value]) => `${key}=${value}`)
        .join(', ')
    : undefined;

const title = (field: string): string => field.charAt(0).toUpperCase() + field.slice(1);

/** A value as indented lines; lists of objects are set apart by a dash. */
export function tree(value: unknown, indent: string): string {
  if (Array.isArray(value)) {
    return value
      .map((item) => {
        if (item === null || typeof item !== 'object') return `${indent}- ${String(item)}\n`;
        return `${indent}- ${tree(item, `${indent}  `).slice(indent.length + 2)}`;
      })
      .join('');
  }
  if (value === null || typeof value !== 'object') return `${indent}${String(value)}\n`;
  return Object.entries(value)
    .map(([key, item]) => {
      if (item === null || typeof item !== 'object') return `${indent}${key}: ${String(item)}\n`;
      if (Object.keys(item).length === 0) return '';
      return `${indent}${key}:\n${tree(item, `${indent}  `)}`;
    })
    .join('');
}
