import type { SchemaProps } from '#api/apiextensions/definition-types.ts';
import { itemSchema } from '#api/apiextensions/definition-types.ts';
import { forbidden, invalid, notSupported, required } from '#api/field-error.ts';
import type { Errors } from '#api/validate.ts';

/** What a schema says of how lists and maps merge. Source: x-kubernetes-list-type and the like. */

const wrongType = (errors: Errors, path: string, type: string, text: string): void => {
  errors.push(type === '' ? required(`${path}.type`, text) : invalid(`${path}.type`, type, text));
};

export function checkMapType(errors: Errors, schema: SchemaProps, path: string): void {
  const mapType = schema['x-kubernetes-map-type'];
  if (mapType === undefined) return;
  if (schema.type !== 'object') {
    const text = 'must be object if x-kubernetes-map-type is specified';
    wrongType(errors, path, schema.type ?? '', text);
  }
  if (mapType !== 'atomic' && mapType !== 'granular') {
    const at = `${path}.x-kubernetes-map-type`;
    errors.push(notSupported(at, mapType, ['atomic', 'granular']));
  }
}

export function checkListType(errors: Errors, schema: SchemaProps, path: string): void {
  const listType = schema['x-kubernetes-list-type'];
  const keys = schema['x-kubernetes-list-map-keys'] ?? [];
  const at = `${path}.x-kubernetes-list-type`;
  const items = itemSchema(schema);
  if (listType !== undefined && schema.type !== 'array') {
    const text = 'must be array if x-kubernetes-list-type is specified';
    wrongType(errors, path, schema.type ?? '', text);
  } else if (listType === 'set' && items) checkSetItems(errors, items, `${path}.items`);
  if (listType !== undefined && !['atomic', 'set', 'map'].includes(listType)) {
    errors.push(notSupported(at, listType, ['atomic', 'set', 'map']));
  }
  if (keys.length > 0) {
    const text = 'must be map if x-kubernetes-list-map-keys is non-empty';
    if (listType === undefined) errors.push(required(at, text));
    else if (listType !== 'map') errors.push(invalid(at, listType, text));
  }
  if (listType === 'map') checkMapList(errors, schema, path, keys);
  if (items && (listType === 'set' || listType === 'map')) {
    checkItemNulls(errors, items, `${path}.items`, listType, listType === 'map' ? keys : []);
  }
}

function checkSetItems(errors: Errors, items: SchemaProps, path: string): void {
  const text = 'must be atomic as item of a list with x-kubernetes-list-type=set';
  const listType = items['x-kubernetes-list-type'];
  if (items.type === 'array' && listType !== undefined && listType !== 'atomic') {
    errors.push(invalid(`${path}.x-kubernetes-list-type`, listType, text));
  }
  if (items.type === 'object' && items['x-kubernetes-map-type'] !== 'atomic') {
    errors.push(invalid(`${path}.x-kubernetes-map-type`, listType ?? null, text));
  }
}

function checkMapList(
  errors: Errors,
  schema: SchemaProps,
  path: string,
  keys: readonly string[],
): void {
  const at = `${path}.x-kubernetes-list-map-keys`;
  if (keys.length === 0) {
    errors.push(required(at, 'must not be empty if x-kubernetes-list-type is map'));
  }
  if (schema.items === undefined) {
    const text = 'must have a schema if x-kubernetes-list-type is map';
    errors.push(required(`${path}.items`, text));
    return;
  }
  const items = itemSchema(schema);
  if (!items) {
    const text = 'must only have a single schema if x-kubernetes-list-type is map';
    errors.push(invalid(`${path}.items`, schema.items, text));
    return;
  }
  if (items.type !== 'object') {
    const text = "must be object if parent array's x-kubernetes-list-type is map";
    errors.push(invalid(`${path}.items.type`, items.type ?? '', text));
    return;
  }
  for (const [i, key] of keys.entries()) {
    const property = items.properties?.[key];
    if (!property) errors.push(invalid(at, keys, 'entries must all be names of item properties'));
    else if (property.type === 'array' || property.type === 'object') {
      const text = "must be a scalar type if parent array's x-kubernetes-list-type is map";
      errors.push(invalid(`${path}.items.properties[${key}].type`, items.type, text));
    }
    if (keys.indexOf(key) < i) {
      errors.push(invalid(at, keys, 'must not contain duplicate entries'));
    }
  }
}

function checkItemNulls(
  errors: Errors,
  items: SchemaProps,
  path: string,
  listType: string,
  keys: readonly string[],
): void {
  if (items.nullable) {
    const text = `cannot be nullable when x-kubernetes-list-type is ${listType}`;
    errors.push(forbidden(`${path}.nullable`, text));
  }
  for (const key of keys) {
    const property = items.properties?.[key];
    if (!property) continue;
    const at = `${path}.properties[${key}]`;
    if (!items.required?.includes(key) && property.default === undefined) {
      const text =
        'this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property';
      errors.push(required(`${at}.default`, text));
    }
    if (property.nullable) {
      const text = 'this property is in x-kubernetes-list-map-keys, so it cannot be nullable';
      errors.push(forbidden(`${at}.nullable`, text));
    }
  }
}
