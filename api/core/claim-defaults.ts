import type { ClaimSpec } from '#api/core/claim-spec-validate.ts';
import { canonicalResources } from '#api/meta/resource-list.ts';

/** Source: core/v1 PersistentVolumeClaimSpec. */
export function defaultClaimSpec(spec: ClaimSpec): void {
  spec.volumeMode ??= 'Filesystem';
  spec.resources ??= {};
  canonicalResources(spec.resources.limits);
  canonicalResources(spec.resources.requests);
}

type Source = { apiGroup?: string | null; kind: string; name: string; namespace?: string };

/** The two references to a source say the same, unless the newer says what the older cannot. */
export function syncDataSources(spec: ClaimSpec): void {
  const both = spec as { dataSource?: Source; dataSourceRef?: Source };
  const { dataSource } = both;
  if (dataSource) {
    if (!isOldSource(dataSource)) delete both.dataSource;
    else dataSource.apiGroup ??= null;
  }
  const reference = both.dataSourceRef;
  if (!both.dataSourceRef && both.dataSource) both.dataSourceRef = { ...both.dataSource };
  else if (reference && !reference.namespace && !dataSource) {
    reference.apiGroup ??= null;
    both.dataSource = { ...reference };
  } else if (reference) reference.apiGroup ??= null;
}

/** What the older field may name: claims and snapshots. */
const isOldSource = ({ apiGroup, kind }: Source): boolean =>
  (!apiGroup && kind === 'PersistentVolumeClaim') ||
  (apiGroup === 'snapshot.storage.k8s.io' && kind === 'VolumeSnapshot');
