import assert from 'node:assert/strict';
import { test } from 'node:test';
import { persistentVolumeClaim } from '#api/core/persistent-volume-claim.ts';
import type { Kind } from '#api/kind.ts';
import { resourceClaimTemplate } from '#api/resource/resource-claim-template.ts';
import { resourceClaim } from '#api/resource/resource-claim.ts';
import { isStatusError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type { AdmissionContext, AdmissionRequest } from '#apiserver/admission-rule.ts';
import { claimResize } from '#apiserver/admission/claim-resize.ts';
import { deviceAdminAccess } from '#apiserver/admission/device-admin-access.ts';
import { readerDouble } from '#apiserver/reader-double.ts';

const reader = readerDouble({
  namespaces: [
    { metadata: { name: 'plain' } },
    { metadata: { name: 'labelled', labels: { 'resource.kubernetes.io/admin-access': 'true' } } },
  ],
  'storageclasses.storage.k8s.io': [
    { metadata: { name: 'grows' }, allowVolumeExpansion: true },
    { metadata: { name: 'stays' } },
  ],
});
const context = { reader } as unknown as AdmissionContext;

const request = (kind: Kind, now: object, before: object | null = null): AdmissionRequest => ({
  operation: before ? 'UPDATE' : 'CREATE',
  kind,
  subresource: '',
  namespace: 'plain',
  name: 'x',
  object: { metadata: { name: 'x' }, ...now } as KubeObject,
  oldObject: before as KubeObject | null,
  user: { name: 'jane', groups: [] },
  dryRun: false,
  warnings: [],
});

const claim = (storage: string, storageClassName?: string, phase = 'Bound'): object => ({
  spec: { storageClassName, resources: { requests: { storage } } },
  status: { phase },
});

test('a claim grows where its class lets it, once it is bound', () => {
  const grow = (name: string | undefined, phase?: string, size = '2Gi'): void => {
    const change = request(persistentVolumeClaim, claim(size, name), claim('1Gi', name, phase));
    assert.ok(claimResize.handles(change));
    void claimResize.validate?.(change, context);
  };
  grow('grows');
  grow('stays', 'Bound', '1024Mi');
  for (const name of ['stays', 'unknown', undefined]) {
    assert.throws(
      () => grow(name),
      (error: unknown) =>
        isStatusError(error) &&
        error.status.code === 403 &&
        /must support resize/.test(error.message),
    );
  }
  assert.throws(() => grow('grows', 'Pending'), /Only bound persistent volume claims/);
});

test('devices in use are for labelled namespaces', () => {
  const devices = { requests: [{ name: 'r', exactly: { adminAccess: true } }] };
  const ask = (kind: Kind, spec: object, namespace: string): void => {
    const made = { ...request(kind, { spec }), namespace };
    assert.ok(deviceAdminAccess.handles(made));
    void deviceAdminAccess.validate?.(made, context);
  };
  ask(resourceClaim, { devices }, 'labelled');
  ask(resourceClaim, { devices: { requests: [] } }, 'plain');
  assert.throws(() => ask(resourceClaim, { devices }, 'plain'), /admin access to devices requires/);
  assert.throws(() => ask(resourceClaimTemplate, { spec: { devices } }, 'plain'), /requires the/);
});
