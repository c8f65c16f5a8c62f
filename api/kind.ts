import type { FieldError } from '#api/field-error.ts';
import type { FieldRules, Schema } from '#api/schema.ts';
import type { KubeObject } from '#api/types.ts';

/**
 * A kind is a value. Everything the API server does with objects of a kind is computed from this;
 * a CustomResourceDefinition becomes the same value, so built-in and custom kinds share one path.
 * All functions are pure: they get what they need as arguments and do no I/O.
 */
export type Kind<T extends KubeObject = KubeObject> = {
  /** '' is the core group. */
  group: string;
  version: string;
  kind: string;
  plural: string;
  singular: string;
  /** Default: the kind's name and `List`. */
  listKind?: string;
  shortNames?: readonly string[];
  categories?: readonly string[];
  scope: 'Namespaced' | 'Cluster';
  /** client-node's model name (`V1Pod`), whose extracted schema is this kind's; or the schema itself. */
  schema: string | Schema;
  /** Rules of fields that this kind's types have and the models lack. */
  fieldRules?: readonly FieldRules[];
  /** Default: every verb below. */
  verbs?: readonly Verb[];
  subresources?: Readonly<Record<string, Subresource>>;
  /** Two kinds over one storage (Event of core and of events.k8s.io; HPA v1 and v2). */
  storedAs?: {
    kind: () => Kind;
    toStored(object: T): KubeObject;
    fromStored(object: KubeObject): T;
    /** Versions differ by more than names: a webhook turns them into each other before these. */
    byWebhook?: boolean;
  };
  /** Version that discovery's storage version hash is made of. Default: that of the stored kind. */
  hashedVersion?: string;

  /** Fills in what the user left out; mutates. Runs on create, update and on the result of patches. */
  defaults?(object: T): void;
  /** Clears and derives fields at creation (drop status, set generation-like fields); mutates. */
  prepareForCreate?(object: T, author: Author): void;
  /** The same at update; `old` is what is stored. */
  prepareForUpdate?(object: T, old: T): void;
  /** metadata.name rules. Default: DNS-1123 subdomain. */
  validateName?: (name: string, prefix: boolean) => string[];
  validate?(object: T): FieldError[];
  /** Rules of creation alone, after `validate`. */
  validateCreate?(object: T): FieldError[];
  /** Rules of updates alone, after `validate`. */
  validateUpdate?(object: T, old: T): FieldError[];
  /** Warnings (HTTP `Warning: 299`) for accepted objects. */
  warnings?(object: T, old: T | undefined): string[];

  /**
   * metadata.generation: 'spec' rises when anything outside metadata and status changes, 'all'
   * with a change of status, too (status writes apart); 'none' is not set.
   */
  generation?: 'spec' | 'all' | 'none';
  /** PUT on an absent name creates it. Default: 404. */
  createOnUpdate?: boolean;
  /** False: a PUT must carry metadata.resourceVersion. Default: it need not. */
  unconditionalUpdate?: boolean;
  /** DELETE answers with the removed object instead of a Status. */
  returnsDeleted?: boolean;
  /** Dependents are orphaned unless the delete says otherwise. */
  orphanByDefault?: boolean;
  /** True: a deleted object stays although it has no finalizers (Namespace: spec.finalizers). */
  heldBack?(object: T): boolean;
  /** When a held back object's deletion begins: Namespace sets its phase. Mutates. */
  prepareForDelete?(object: T): void;
  /** Graceful deletion in seconds; undefined or 0 = at once. Pods are the case that exists. */
  gracePeriodSeconds?(object: T, requested: number | undefined): number;
  /** Events live this long, seconds; the store's lease removes them. */
  ttlSeconds?: number;
  /** Field selectors besides metadata.name and metadata.namespace. */
  selectableFields?: Readonly<Record<string, (object: T) => string>>;
  /** Nothing new may be made, for this reason. */
  closed?: string;
  /** Every request gets this warning. */
  deprecated?: string;
  /** What a table's row says of its object, such as that it has completed. */
  rowConditions?(object: T): readonly RowCondition[];
  /** Columns of the server-side table after Name and before Age unless `ageColumn` is false. */
  columns?: readonly Column<T>[];
  ageColumn?: boolean;
  /** False where `columns` place the name themselves (Event). */
  nameColumn?: boolean;
};

export type Verb =
  | 'create'
  | 'delete'
  | 'deletecollection'
  | 'get'
  | 'list'
  | 'patch'
  | 'update'
  | 'watch';

export const ALL_VERBS: readonly Verb[] = [
  'create',
  'delete',
  'deletecollection',
  'get',
  'list',
  'patch',
  'update',
  'watch',
];

/**
 * `status` and `scale` are data; everything else names a handler in apiserver/subresources.
 * `connect` = upgraded streams and proxies.
 */
export type Subresource =
  | {
      type: 'status';
      /** Keeps from `old` whatever a status write may not change. Default: all but status and metadata. */
      prepareForUpdate?(object: KubeObject, old: KubeObject): void;
      validateUpdate?(object: KubeObject, old: KubeObject): FieldError[];
    }
  | {
      type: 'scale';
      /** Dotted paths, as in a CustomResourceDefinition. */
      specReplicasPath: string;
      statusReplicasPath: string;
      labelSelectorPath?: string;
      /** The selector as text, where it is not a string at `labelSelectorPath` (built-in kinds). */
      selector?(object: KubeObject): string;
    }
  | {
      type: 'handler';
      /** Given where the generic verbs serve it, as they do `status`; else a handler must exist. */
      prepareForUpdate?(object: KubeObject, old: KubeObject): void;
      validateUpdate?(object: KubeObject, old: KubeObject): FieldError[];
      verbs: readonly string[];
      /** Group, version and kind of the body, where it differs from the parent's. */
      body?: { group: string; version: string; kind: string };
    };

/** Source: meta.k8s.io/v1 TableRowCondition. */
export type RowCondition = { type: string; status: string; reason?: string; message?: string };

/** Who creates an object; for kinds that record it. */
export type Author = {
  name: string;
  uid?: string | undefined;
  groups: readonly string[];
  extra?: Readonly<Record<string, readonly string[]>> | undefined;
};

export type Column<T extends KubeObject = KubeObject> = {
  name: string;
  type: 'string' | 'integer' | 'number' | 'boolean' | 'date';
  format?: string;
  description?: string;
  /** `Model.field` whose documentation describes the column, where `description` is absent. */
  describedBy?: string;
  /** 0 = always shown, 1 = `-o wide`. */
  priority?: number;
  value(object: T, now: number): string | number | bigint | boolean | null;
};

export const apiVersionOf = (kind: { group: string; version: string }): string =>
  kind.group ? `${kind.group}/${kind.version}` : kind.version;

/** Stable text key of a kind: `apps/v1/Deployment`, `v1/Pod`. */
export const gvkKey = (kind: { group: string; version: string; kind: string }): string =>
  `${apiVersionOf(kind)}/${kind.kind}`;

/** Declares a kind with its object's type checked, and forgets the type for the list of all kinds. */
export function defineKind<T extends KubeObject>(kind: Kind<T>): Kind {
  return kind as unknown as Kind;
}
