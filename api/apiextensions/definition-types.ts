import type { KubeObject } from '#api/types.ts';

/** The JSON form of apiextensions.k8s.io/v1; client-node's models spell its names in another way. */

/** One rule of `x-kubernetes-validations`. Source: apiextensions.k8s.io/v1 ValidationRule. */
export type ValidationRule = {
  rule: string;
  message?: string;
  messageExpression?: string;
  reason?: string;
  fieldPath?: string;
  optionalOldSelf?: boolean;
};

/** A schema as users write it. Source: apiextensions.k8s.io/v1 JSONSchemaProps. */
export type SchemaProps = {
  id?: string;
  $schema?: string;
  $ref?: string;
  description?: string;
  type?: string;
  format?: string;
  title?: string;
  default?: unknown;
  example?: unknown;
  externalDocs?: { description?: string; url?: string };
  maximum?: number;
  exclusiveMaximum?: boolean;
  minimum?: number;
  exclusiveMinimum?: boolean;
  maxLength?: number;
  minLength?: number;
  pattern?: string;
  maxItems?: number;
  minItems?: number;
  uniqueItems?: boolean;
  multipleOf?: number;
  enum?: readonly unknown[];
  maxProperties?: number;
  minProperties?: number;
  required?: readonly string[];
  nullable?: boolean;
  items?: SchemaProps | readonly SchemaProps[];
  allOf?: readonly SchemaProps[];
  oneOf?: readonly SchemaProps[];
  anyOf?: readonly SchemaProps[];
  not?: SchemaProps;
  properties?: Readonly<Record<string, SchemaProps>>;
  additionalProperties?: SchemaProps | boolean;
  patternProperties?: Readonly<Record<string, SchemaProps>>;
  dependencies?: Readonly<Record<string, SchemaProps | readonly string[]>>;
  additionalItems?: SchemaProps | boolean;
  definitions?: Readonly<Record<string, SchemaProps>>;
  'x-kubernetes-preserve-unknown-fields'?: boolean;
  'x-kubernetes-embedded-resource'?: boolean;
  'x-kubernetes-int-or-string'?: boolean;
  'x-kubernetes-list-type'?: string;
  'x-kubernetes-list-map-keys'?: readonly string[];
  'x-kubernetes-map-type'?: string;
  'x-kubernetes-validations'?: readonly ValidationRule[];
};

export type ColumnDefinition = {
  name: string;
  type: string;
  format?: string;
  description?: string;
  priority?: number;
  jsonPath: string;
};

export type ScalePaths = {
  specReplicasPath: string;
  statusReplicasPath: string;
  labelSelectorPath?: string;
};

export type DefinitionVersion = {
  name: string;
  served: boolean;
  storage: boolean;
  deprecated?: boolean;
  deprecationWarning?: string;
  schema?: { openAPIV3Schema?: SchemaProps };
  subresources?: { status?: object; scale?: ScalePaths };
  additionalPrinterColumns?: ColumnDefinition[];
  selectableFields?: { jsonPath: string }[];
};

export type DefinitionNames = {
  plural: string;
  singular?: string;
  shortNames?: string[];
  kind: string;
  listKind?: string;
  categories?: string[];
};

export type WebhookClientConfig = {
  url?: string;
  service?: { namespace: string; name: string; path?: string; port?: number };
  caBundle?: string;
};

export type Conversion = {
  strategy: string;
  webhook?: { clientConfig?: WebhookClientConfig; conversionReviewVersions?: string[] };
};

export type DefinitionSpec = {
  group: string;
  names: DefinitionNames;
  scope: string;
  versions: DefinitionVersion[];
  conversion?: Conversion;
  preserveUnknownFields?: boolean;
};

export type DefinitionCondition = {
  type: string;
  status: string;
  lastTransitionTime?: string | null;
  reason?: string;
  message?: string;
};

export type DefinitionStatus = {
  conditions?: DefinitionCondition[] | null;
  acceptedNames?: DefinitionNames;
  storedVersions?: string[];
};

export type CustomResourceDefinition = KubeObject & {
  spec: DefinitionSpec;
  status?: DefinitionStatus;
};

/** Finalizer under which a definition's objects are removed before it goes. */
export const CLEANUP_FINALIZER = 'customresourcecleanup.apiextensions.k8s.io';

export const isTrue = (definition: CustomResourceDefinition, condition: string): boolean =>
  definition.status?.conditions?.some(
    ({ type, status }) => type === condition && status === 'True',
  ) === true;

/** The version whose form objects are stored in. */
export const storageVersion = ({ spec }: CustomResourceDefinition): string =>
  spec.versions.find(({ storage }) => storage)?.name ?? '';

/** `items`, unless it is the list of schemas that structural schemas cannot have. */
export const itemSchema = ({ items }: SchemaProps): SchemaProps | undefined =>
  items === undefined || Array.isArray(items) ? undefined : (items as SchemaProps);

/** The schema of a map's values, where there is one. */
export const valueSchema = ({ additionalProperties }: SchemaProps): SchemaProps | undefined =>
  typeof additionalProperties === 'object' ? additionalProperties : undefined;
