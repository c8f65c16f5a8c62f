import type {
  ColumnDefinition,
  CustomResourceDefinition,
  DefinitionVersion,
  SchemaProps,
} from '#api/apiextensions/definition-types.ts';
import { equalJson } from '#api/json.ts';

type Subresources = DefinitionVersion['subresources'];

/**
 * What all versions of a definition have alike stands above them: upstream checks and names it
 * there (`spec.validation`, not `spec.versions[0].schema`).
 * Source: conversion of apiextensions.k8s.io/v1 to its internal form.
 */
export type HoistedSpec = {
  validation: { openAPIV3Schema?: SchemaProps } | undefined;
  subresources: Subresources;
  columns: readonly ColumnDefinition[];
  selectableFields: readonly { jsonPath: string }[];
  /** Without what is above. */
  versions: readonly DefinitionVersion[];
  /** Of the first version. */
  version: string;
};

export function hoist({ spec }: CustomResourceDefinition): HoistedSpec {
  const versions = spec.versions ?? [];
  const [first] = versions;
  const same = (read: (version: DefinitionVersion) => unknown): boolean =>
    first !== undefined && versions.every((one) => equalOrBothAbsent(read(one), read(first)));
  const schema = same((one) => one.schema);
  const subresources = same((one) => one.subresources);
  const columns = same((one) => one.additionalPrinterColumns);
  const fields = same((one) => one.selectableFields);
  return {
    validation: schema ? first?.schema : undefined,
    subresources: subresources ? first?.subresources : undefined,
    columns: (columns ? first?.additionalPrinterColumns : undefined) ?? [],
    selectableFields: (fields ? first?.selectableFields : undefined) ?? [],
    version: first?.name ?? '',
    versions: versions.map((version) => {
      const own = { ...version };
      if (schema) delete own.schema;
      if (subresources) delete own.subresources;
      if (columns) delete own.additionalPrinterColumns;
      if (fields) delete own.selectableFields;
      return own;
    }),
  };
}

const equalOrBothAbsent = (a: unknown, b: unknown): boolean =>
  (a === undefined && b === undefined) || equalJson(a, b);

/** Versions as error messages show them: with the names of upstream's internal type. */
export const shownVersions = (versions: readonly DefinitionVersion[]): unknown[] =>
  versions.map((version) => ({
    Name: version.name ?? '',
    Served: version.served ?? false,
    Storage: version.storage ?? false,
    Deprecated: version.deprecated ?? false,
    DeprecationWarning: version.deprecationWarning ?? null,
    Schema: version.schema ?? null,
    Subresources: version.subresources ?? null,
    AdditionalPrinterColumns: version.additionalPrinterColumns ?? null,
    SelectableFields: version.selectableFields ?? null,
  }));
