import type { Verb } from '#cli/verb.ts';
import { UserError } from '#cli/verb.ts';
import { type ClientContext, type ClientFlags, clientFlags, withClient } from '#cli/context.ts';
import { type ManifestObject, placeOf, readManifests } from '#cli/manifest.ts';
import { explainFailure } from '#cli/explain-failure.ts';
import { type DiscoveredResource, discover, resourceOfKind } from '#cli/resources.ts';
import { nearest } from '#cli/suggest.ts';
import { isStatusError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';

type Flags = ClientFlags & {
  filename: string[];
  recursive?: boolean;
  force?: boolean;
  dryRun?: boolean;
};

const FIELD_MANAGER = 'gantry';

export const apply: Verb = {
  name: 'apply',
  summary: 'make the cluster match manifests (server-side apply)',
  configure(command) {
    clientFlags(command)
      .requiredOption('-f, --filename <file...>', 'manifest file, folder, or - for standard input')
      .option('-R, --recursive', 'folders within folders too')
      .option('--force', 'take over fields that another manager owns')
      .option('--dry-run', 'let the server check everything, change nothing')
      .action((flags: Flags) => withClient(flags, (context) => run(context, flags)));
  },
};

async function run(context: ClientContext, flags: Flags): Promise<void> {
  const manifests = readManifests(flags.filename, flags.recursive);
  const known = await discover(context.api);
  const located = manifests.map((manifest) => ({ manifest, resource: locate(known, manifest) }));
  const failures: string[] = [];
  for (const { manifest, resource } of located) {
    try {
      const done = await applyOne(context, resource, manifest, flags);
      console.log(
        `${nameOf(resource, manifest.object)} ${done}${flags.dryRun ? ' (dry run)' : ''}`,
      );
    } catch (error) {
      if (!isStatusError(error)) throw error;
      failures.push(explainFailure(error, manifest));
    }
  }
  if (failures.length > 0) throw new UserError(failures.join('\n'));
}

function locate(
  known: readonly DiscoveredResource[],
  manifest: ManifestObject,
): DiscoveredResource {
  const { apiVersion = '', kind = '' } = manifest.object;
  const found = resourceOfKind(known, apiVersion, kind);
  if (found) return found;
  const hint = nearest(
    kind,
    known.map((r) => r.kind),
  );
  const meant = known.find((r) => r.kind === (hint ?? kind));
  throw new UserError(
    `${placeOf(manifest, ['kind'])}: no kind "${kind}" in version "${apiVersion}"` +
      (meant ? `; did you mean ${versionOf(meant)} ${meant.kind}?` : ''),
  );
}

const versionOf = (r: DiscoveredResource): string =>
  r.group ? `${r.group}/${r.version}` : r.version;

async function applyOne(
  { api, namespace }: ClientContext,
  resource: DiscoveredResource,
  { object }: ManifestObject,
  flags: Flags,
): Promise<'created' | 'configured' | 'unchanged'> {
  const name = object.metadata?.name;
  if (!name) throw new UserError(`${object.kind}: metadata.name is missing; apply needs a name`);
  const inNamespace = resource.namespaced ? (object.metadata.namespace ?? namespace) : undefined;
  const key = { name, namespace: inNamespace };
  const body: KubeObject = {
    ...object,
    metadata: { ...object.metadata, ...(inNamespace ? { namespace: inNamespace } : {}) },
  };
  const before = await versionNow(api, resource, key);
  const after = await api.patch(
    resource,
    key,
    { type: 'apply', body, fieldManager: FIELD_MANAGER, force: flags.force ?? false },
    { dryRun: flags.dryRun ?? false, fieldValidation: 'Strict' },
  );
  if (before === null) return 'created';
  return before === after.metadata.resourceVersion ? 'unchanged' : 'configured';
}

async function versionNow(
  api: ClientContext['api'],
  resource: DiscoveredResource,
  key: { name: string; namespace: string | undefined },
): Promise<string | null> {
  try {
    return (await api.get(resource, key)).metadata.resourceVersion ?? '';
  } catch (error) {
    if (isStatusError(error, 'NotFound')) return null;
    throw error;
  }
}

const nameOf = (resource: DiscoveredResource, object: KubeObject): string =>
  `${(resource.singular || resource.resource) + (resource.group ? `.${resource.group}` : '')}/${object.metadata.name}`;
