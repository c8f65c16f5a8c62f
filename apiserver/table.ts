import type { Column, Kind, RowCondition } from '#api/kind.ts';
import { AGE, CREATED_AT } from '#api/meta/columns.ts';
import type { Scheme } from '#api/scheme.ts';
import type { KubeObject } from '#api/types.ts';

/** What a table's rows carry beside their cells. Source: meta.k8s.io/v1 TableOptions. */
export type IncludeObject = 'None' | 'Metadata' | 'Object';

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';

type ColumnDefinition = {
  name: string;
  type: string;
  format: string;
  description: string;
  priority: number;
};

const NAME: Column = {
  name: 'Name',
  type: 'string',
  format: 'name',
  describedBy: 'V1ObjectMeta.name',
  value: (object) => object.metadata.name ?? '',
};

/** The columns of a kind, in order. */
export function columnsOf(kind: Kind): readonly Column[] {
  return [
    ...(kind.nameColumn === false ? [] : [NAME]),
    ...(kind.columns ?? []),
    ...(kind.ageColumn === false ? [] : [AGE]),
  ];
}

const definitionsOf = new WeakMap<Kind, ColumnDefinition[]>();

function describeColumns(kind: Kind, scheme: Scheme): ColumnDefinition[] {
  let definitions = definitionsOf.get(kind);
  if (!definitions) {
    definitions = columnsOf(kind).map((column) => ({
      name: column.name,
      type: column.type,
      format: column.format ?? '',
      description: column.description ?? documentation(column.describedBy, kind, scheme),
      priority: column.priority ?? 0,
    }));
    definitionsOf.set(kind, definitions);
  }
  return definitions;
}

/** What the models say about `Model.field`. */
function documentation(describedBy: string | undefined, kind: Kind, scheme: Scheme): string {
  const [model = '', ...path] = (describedBy ?? '').split('.');
  if (model === '') return '';
  const definition = scheme.definitions.get(definitionNamed(model, kind, scheme));
  const property = path.length === 0 ? definition : definition?.properties?.[path.join('.')];
  // Where nobody says what a field is for, its type says what it is.
  const described = property?.description ? property : scheme.definitions.get(property?.ref ?? '');
  return described?.description ?? '';
}

/** `V1DeploymentSpec` → the definition with that version and name, of the kind's group if many. */
function definitionNamed(model: string, kind: Kind, scheme: Scheme): string {
  if (model === 'V1ObjectMeta') return META;
  const match = /^([A-Z][a-z]+)?(V\d+(?:(?:alpha|beta)\d+)?)([A-Z].*)$/.exec(model);
  const group = match?.[1] ? `.${match[1].toLowerCase()}` : '';
  const suffix = `${group}.${(match?.[2] ?? '').toLowerCase()}.${match?.[3] ?? ''}`;
  const own = scheme.definitionName(kind);
  const candidates = [...scheme.definitions.keys()].filter((name) => name.endsWith(suffix));
  const home = own.slice(0, own.lastIndexOf('.'));
  return candidates.find((name) => name.startsWith(`${home}.`)) ?? candidates[0] ?? '';
}

export type TableOptions = {
  includeObject: IncludeObject;
  /** Without the column definitions: later events of a watch. */
  headless?: boolean;
  metadata?: Record<string, unknown>;
  nowMs: number;
};

/** Source: meta.k8s.io/v1 Table. */
export function tableOf(
  kind: Kind,
  scheme: Scheme,
  objects: readonly KubeObject[],
  options: TableOptions,
): Record<string, unknown> {
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: options.metadata ?? {},
    columnDefinitions: options.headless ? null : describeColumns(kind, scheme),
    rows: rowsOf(kind, objects, options),
  };
}

/** A bookmark as a table: one row, whose object is nothing but the metadata. */
export function bookmarkTable(
  kind: Kind,
  scheme: Scheme,
  metadata: KubeObject['metadata'],
  headless: boolean,
): Record<string, unknown> {
  const cells = columnsOf(kind).map(({ type }) => (type === 'string' ? '' : 0));
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: { resourceVersion: metadata.resourceVersion },
    columnDefinitions: headless ? null : describeColumns(kind, scheme),
    rows: [
      {
        cells,
        object: { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata },
      },
    ],
  };
}

function rowsOf(kind: Kind, objects: readonly KubeObject[], options: TableOptions): unknown {
  // Kinds without a table of their own answer null for no rows.
  if (objects.length === 0 && kind.columns?.[0]?.name === CREATED_AT.name) return null;
  const columns = columnsOf(kind);
  return objects.map((object) => ({
    cells: columns.map((column) => column.value(object, options.nowMs)),
    ...rowConditions(kind, object),
    object: shownObject(object, options.includeObject),
  }));
}

function rowConditions(kind: Kind, object: KubeObject): { conditions?: readonly RowCondition[] } {
  const conditions = kind.rowConditions?.(object) ?? [];
  return conditions.length > 0 ? { conditions } : {};
}

function shownObject(object: KubeObject, include: IncludeObject): unknown {
  switch (include) {
    case 'None':
      return null;
    case 'Metadata':
      return partialMetadata(object);
    case 'Object':
      return object;
  }
}

/** Source: meta.k8s.io/v1 PartialObjectMetadata. */
export function partialMetadata(object: KubeObject): Record<string, unknown> {
  return {
    kind: 'PartialObjectMetadata',
    apiVersion: 'meta.k8s.io/v1',
    metadata: object.metadata,
  };
}
