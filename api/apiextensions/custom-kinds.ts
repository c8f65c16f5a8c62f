import { customColumns, customFields } from '#api/apiextensions/custom-columns.ts';
import type { CustomRules } from '#api/apiextensions/custom-rules.ts';
import {
  finalizerWarnings,
  validateCustomCreate,
  validateCustomStatus,
  validateCustomUpdate,
} from '#api/apiextensions/custom-rules.ts';
import { customSchema } from '#api/apiextensions/custom-schema.ts';
import { applyDefaults, pruneNulls, pruneUnknown } from '#api/apiextensions/custom-values.ts';
import type {
  CustomResourceDefinition,
  DefinitionVersion,
  SchemaProps,
} from '#api/apiextensions/definition-types.ts';
import { apiVersionOf } from '#api/kind.ts';
import type { Kind, Subresource, Verb } from '#api/kind.ts';
import { keepStatus } from '#api/meta/status-part.ts';
import { compareVersions } from '#api/scheme.ts';
import type { KubeObject } from '#api/types.ts';

/**
 * A definition as the kinds that it stands for, one per served version, in the order of preference.
 * Source: Kubernetes "Custom resources".
 */
export function customKinds(definition: CustomResourceDefinition): Kind[] {
  const { versions } = definition.spec;
  const stored = versions.find(({ storage }) => storage);
  if (!stored) return [];
  let home: Kind | undefined;
  const homeOf = (): Kind => (home ??= kindOf(definition, stored, homeOf));
  return versions
    .filter(({ served }) => served)
    .sort((a, b) => compareVersions(a.name, b.name))
    .map((version) => (version === stored ? homeOf() : kindOf(definition, version, homeOf)));
}

/** The kind that a definition's objects are stored as, served or not. */
export function storedKindOf(definition: CustomResourceDefinition): Kind | undefined {
  const versions = definition.spec.versions.filter(({ storage }) => storage);
  const [version] = versions.map((one) => ({ ...one, served: true }));
  if (!version) return undefined;
  return customKinds({ ...definition, spec: { ...definition.spec, versions: [version] } })[0];
}

/** In the order of discovery. */
const VERBS: readonly Verb[] = [
  'delete',
  'deletecollection',
  'get',
  'list',
  'patch',
  'create',
  'update',
  'watch',
];

/** Why nothing new may be made of a definition that is going away. */
const TERMINATING = 'create not allowed while custom resource definition is terminating';

function kindOf(
  definition: CustomResourceDefinition,
  version: DefinitionVersion,
  home: () => Kind,
): Kind {
  const { spec, status } = definition;
  const names = status?.acceptedNames?.kind ? status.acceptedNames : spec.names;
  const keepsAll = spec.preserveUnknownFields === true;
  const schema = customSchema(version.schema?.openAPIV3Schema, keepsAll);
  const props = schema.custom ?? {};
  const rules: CustomRules = { schema: props, scale: version.subresources?.scale };
  const hasStatus = version.subresources?.status !== undefined;
  return {
    group: spec.group,
    version: version.name,
    kind: names.kind,
    plural: names.plural,
    singular: names.singular || names.kind.toLowerCase(),
    ...(names.listKind ? { listKind: names.listKind } : {}),
    ...(names.shortNames?.length ? { shortNames: names.shortNames } : {}),
    ...(names.categories?.length ? { categories: names.categories } : {}),
    scope: spec.scope === 'Namespaced' ? 'Namespaced' : 'Cluster',
    schema,
    verbs: VERBS,
    ...(definition.metadata.deletionTimestamp ? { closed: TERMINATING } : {}),
    ...(version.deprecated ? { deprecated: deprecation(definition, version) } : {}),
    subresources: subresourcesOf(version, rules),
    generation: 'all',
    unconditionalUpdate: false,
    columns: customColumns(version.additionalPrinterColumns),
    ageColumn: false,
    selectableFields: customFields(version.selectableFields),
    storedAs: {
      ...storedAs(version.name, props, home),
      ...(spec.conversion?.strategy === 'Webhook' ? { byWebhook: true } : {}),
    },
    defaults: (object) => applyDefaults(object, props),
    prepareForCreate(object) {
      if (hasStatus) delete object['status'];
    },
    prepareForUpdate(object, old) {
      if (hasStatus) keepStatus(object, old);
    },
    validateCreate: (object) => validateCustomCreate(object, rules),
    validateUpdate: (object, old) => validateCustomUpdate(object, old, rules),
    warnings: finalizerWarnings,
  };
}

/** Objects lie in the storage version's form; on their way out they get what the schema says now. */
function storedAs(
  version: string,
  props: SchemaProps,
  home: () => Kind,
): NonNullable<Kind['storedAs']> {
  return {
    kind: home,
    toStored(object) {
      const stored = home();
      if (stored.version === version) return object;
      const schema = typeof stored.schema === 'string' ? undefined : stored.schema.custom;
      object.apiVersion = apiVersionOf(stored);
      fit(object, schema);
      return object;
    },
    fromStored(object) {
      fit(object, props);
      applyDefaults(object, props);
      return object;
    },
  };
}

function fit(object: KubeObject, schema: SchemaProps | undefined): void {
  pruneUnknown(object, schema, { isRoot: true });
  pruneNulls(object, schema);
}

function subresourcesOf(
  version: DefinitionVersion,
  rules: CustomRules,
): Record<string, Subresource> {
  const { status, scale } = version.subresources ?? {};
  return {
    ...(scale ? { scale: { type: 'scale', ...scale } } : {}),
    ...(status
      ? {
          status: {
            type: 'status',
            prepareForUpdate: keepAllButStatus,
            validateUpdate: (object, old) => validateCustomStatus(object, old, rules),
          },
        }
      : {}),
  };
}

/** A status write changes status alone: not even metadata. */
function keepAllButStatus(object: KubeObject, old: KubeObject): void {
  const { status } = object;
  const { managedFields } = object.metadata;
  for (const field of Object.keys(object)) delete object[field];
  const { managedFields: _, ...metadata } = old.metadata;
  Object.assign(object, structuredClone({ ...old, metadata }));
  if (managedFields !== undefined) object.metadata.managedFields = managedFields;
  if (status === undefined) delete object['status'];
  else object['status'] = status;
}

/** The version's own words, or which version to use instead. */
function deprecation(
  { spec }: CustomResourceDefinition,
  { name, deprecationWarning }: DefinitionVersion,
): string {
  if (deprecationWarning !== undefined) return deprecationWarning;
  const text = `${spec.group}/${name} ${spec.names.kind} is deprecated`;
  const [better] = spec.versions
    .filter((one) => one.served && !one.deprecated && compareVersions(one.name, name) < 0)
    .map((one) => one.name)
    .sort(compareVersions);
  return better ? `${text}; use ${spec.group}/${better} ${spec.names.kind}` : text;
}
