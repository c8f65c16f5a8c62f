import { checkDriverName } from '#api/core/volume-sources-validate.ts';
import { duplicate, invalid, required, tooLong } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import { defineKind } from '#api/kind.ts';
import { integer } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { storageRules } from '#api/storage/storage-rules.ts';
import type { CSINode } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkNotNegative, checkQualifiedName, sameMeaning } from '#api/validate.ts';

type Driver = CSINode['spec']['drivers'][number];

const MAX_NODE_ID = 256;

/** The storage drivers of one node. Source: storage.k8s.io/v1 CSINode. */
export const csiNode = defineKind<CSINode>({
  group: 'storage.k8s.io',
  version: 'v1',
  kind: 'CSINode',
  plural: 'csinodes',
  singular: 'csinode',
  scope: 'Cluster',
  schema: 'V1CSINode',
  fieldRules: [storageRules, metaRules],
  generation: 'none',
  unconditionalUpdate: false,
  returnsDeleted: true,
  columns: [
    integer(
      'Drivers',
      (object) => object.spec?.drivers?.length ?? 0,
      'Drivers indicates the number of CSI drivers registered on the node',
    ),
  ],

  defaults(object) {
    object.spec ??= { drivers: [] };
    // Lists are always shown, and as null when they are empty.
    for (const driver of object.spec.drivers ?? []) {
      if (!driver.topologyKeys?.length) (driver as { topologyKeys: unknown }).topologyKeys = null;
    }
    if (!object.spec.drivers?.length) (object.spec as { drivers: unknown }).drivers = null;
  },
  validate(object) {
    const errors: Errors = [];
    const seen = new Set<string>();
    for (const [i, driver] of (object.spec?.drivers ?? []).entries()) {
      checkDriver(errors, `spec.drivers[${i}]`, driver, seen);
    }
    return errors;
  },
  /** A driver that stays keeps what it said. */
  validateUpdate(object, old) {
    const errors: Errors = [];
    const stored = new Map((old.spec?.drivers ?? []).map((driver) => [driver.name, driver]));
    for (const driver of object.spec?.drivers ?? []) {
      const before = stored.get(driver.name);
      if (before && !sameMeaning({ ...driver, allocatable: 0 }, { ...before, allocatable: 0 })) {
        errors.push(
          invalid('spec.drivers', internalForm('CSINodeDriver', driver), 'field is immutable'),
        );
      }
    }
    return errors;
  },
});

function checkDriver(errors: Errors, at: string, driver: Driver, seen: Set<string>): void {
  const { name, nodeID, topologyKeys, allocatable } = driver;
  if (name) checkDriverName(errors, `${at}.name`, name);
  else errors.push(required(`${at}.name`));
  if (!nodeID) errors.push(required(`${at}.nodeID`));
  else if (Buffer.byteLength(nodeID) > MAX_NODE_ID) {
    errors.push(tooLong(`${at}.nodeID`, MAX_NODE_ID));
  }
  checkNotNegative(errors, `${at}.allocatable.count`, allocatable?.count);
  if (name && seen.has(name)) errors.push(duplicate(`${at}.name`, name));
  seen.add(name);
  const keys = new Set<string>();
  for (const key of topologyKeys ?? []) {
    if (!key) errors.push(required(at));
    if (keys.has(key)) errors.push(duplicate(at, key));
    keys.add(key);
    checkQualifiedName(errors, at, key);
  }
}
