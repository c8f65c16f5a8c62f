import { conversionCaProblem } from '#api/apiextensions/conversion-ca.ts';
import { fieldAt } from '#api/apiextensions/schema-path.ts';
import type {
  ColumnDefinition,
  CustomResourceDefinition,
  DefinitionNames,
  DefinitionVersion,
  SchemaProps,
  WebhookClientConfig,
} from '#api/apiextensions/definition-types.ts';
import { duplicate, forbidden, invalid, required, tooMany } from '#api/field-error.ts';
import type { Errors } from '#api/validate.ts';
import { checkRequiredEnum } from '#api/validate.ts';
import { isDns1035Label, isDns1123Subdomain } from '#api/validate-names.ts';

/** The parts of a definition beside its schema. Source: apiextensions.k8s.io/v1. */

export function checkNames(errors: Errors, path: string, names: DefinitionNames): void {
  const check = (field: string, value: string | undefined, mixedCase = false): void => {
    if (!value) return;
    const wrong = isDns1035Label(mixedCase ? value.toLowerCase() : value);
    if (wrong.length === 0) return;
    const prefix = mixedCase ? 'may have mixed case, but should otherwise match: ' : '';
    errors.push(invalid(`${path}.${field}`, value, prefix + wrong.join(',')));
  };
  check('plural', names.plural);
  check('singular', names.singular);
  check('kind', names.kind, true);
  check('listKind', names.listKind, true);
  const checkEach = (field: string, values: readonly string[] | undefined): void => {
    for (const [i, value] of (values ?? []).entries()) {
      const wrong = isDns1035Label(value);
      if (wrong.length > 0) errors.push(invalid(`${path}.${field}[${i}]`, value, wrong.join(',')));
    }
  };
  checkEach('shortNames', names.shortNames);
  if (names.kind && names.kind === names.listKind) {
    const text = 'kind and listKind may not be the same';
    errors.push(invalid(`${path}.listKind`, names.listKind, text));
  }
  checkEach('categories', names.categories);
}

const COLUMN_TYPES = ['boolean', 'date', 'integer', 'number', 'string'];
const COLUMN_FORMATS = [
  'byte',
  'date',
  'date-time',
  'double',
  'float',
  'int32',
  'int64',
  'password',
];

export function checkColumns(
  errors: Errors,
  path: string,
  columns: readonly ColumnDefinition[],
): void {
  for (const [i, { name, type, format, jsonPath }] of columns.entries()) {
    const at = `${path}[${i}]`;
    const types = `must be one of ${COLUMN_TYPES.join(',')}`;
    if (!name) errors.push(required(`${at}.name`));
    if (!type) errors.push(required(`${at}.type`, types));
    else if (!COLUMN_TYPES.includes(type)) errors.push(invalid(`${at}.type`, type, types));
    if (format && !COLUMN_FORMATS.includes(format)) {
      const text = `must be one of ${COLUMN_FORMATS.join(',')}`;
      errors.push(invalid(`${at}.format`, format, text));
    }
    if (!jsonPath) errors.push(required(`${at}.JSONPath`));
    else checkSimplePath(errors, `${at}.JSONPath`, jsonPath);
  }
}

function checkSimplePath(errors: Errors, path: string, text: string): boolean {
  if (text.startsWith('.')) return true;
  errors.push(invalid(path, text, 'must be a simple json path starting with .'));
  return false;
}

export function checkSubresources(
  errors: Errors,
  path: string,
  subresources: DefinitionVersion['subresources'],
): void {
  const scale = subresources?.scale;
  if (!scale) return;
  const check = (field: keyof typeof scale, roots: readonly string[], text: string): void => {
    const value = scale[field] ?? '';
    const at = `${path}.scale.${field}`;
    if (value === '') {
      if (field !== 'labelSelectorPath') errors.push(required(at));
    } else if (
      checkSimplePath(errors, at, value) &&
      !roots.some((root) => value.startsWith(root))
    ) {
      errors.push(invalid(at, value, `should be a json path under ${text}`));
    }
  };
  check('specReplicasPath', ['.spec.'], '.spec');
  check('statusReplicasPath', ['.status.'], '.status');
  check('labelSelectorPath', ['.spec.', '.status.'], 'either .spec or .status');
}

const MAX_SELECTABLE_FIELDS = 8;
const SELECTABLE = new Set(['string', 'boolean', 'integer']);

export function checkSelectableFields(
  errors: Errors,
  path: string,
  fields: readonly { jsonPath: string }[],
  schema: SchemaProps,
): void {
  const seen = new Set<string>();
  for (const [i, { jsonPath }] of fields.entries()) {
    const at = `${path}[${i}].jsonPath`;
    if (!jsonPath) {
      errors.push(required(at));
      continue;
    }
    const found = fieldAt(jsonPath, schema, { brackets: false });
    if ('wrong' in found) {
      errors.push(invalid(at, jsonPath, `is an invalid path: ${found.wrong}`));
      continue;
    }
    if (/^metadata(\.|$)/.test(found.path)) {
      errors.push(invalid(at, jsonPath, 'must not point to fields in metadata'));
    }
    if (!SELECTABLE.has(found.schema?.type ?? '')) {
      const text =
        'must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.';
      errors.push(invalid(at, jsonPath, text));
    }
    if (seen.has(found.path)) errors.push(duplicate(at, jsonPath));
    seen.add(found.path);
  }
  if (seen.size > MAX_SELECTABLE_FIELDS) {
    errors.push(tooMany(path, seen.size, MAX_SELECTABLE_FIELDS));
  }
}

const REVIEW_VERSIONS = ['v1', 'v1beta1'];

export function checkConversion(
  errors: Errors,
  object: CustomResourceDefinition,
  old: CustomResourceDefinition | undefined,
): void {
  const { conversion } = object.spec;
  if (!conversion) return;
  const path = 'spec.conversion';
  checkRequiredEnum(errors, `${path}.strategy`, conversion.strategy, ['None', 'Webhook']);
  const { clientConfig, conversionReviewVersions = [] } = conversion.webhook ?? {};
  if (conversion.strategy !== 'Webhook') {
    const text = 'should not be set when strategy is not set to Webhook';
    if (clientConfig) errors.push(forbidden(`${path}.webhookClientConfig`, text));
    if (conversionReviewVersions.length > 0) {
      errors.push(forbidden(`${path}.conversionReviewVersions`, text));
    }
    return;
  }
  const at = `${path}.webhookClientConfig`;
  if (!clientConfig) errors.push(required(at, 'required when strategy is set to Webhook'));
  else checkClientConfig(errors, at, clientConfig);
  const problem = old && !conversionCaProblem(old) ? conversionCaProblem(object) : '';
  if (problem) {
    const text = `unable to load root certificates: ${problem}`;
    errors.push(invalid(`${at}.caBundle`, clientConfig?.caBundle, text));
  }
  const known = old?.spec.conversion?.webhook?.conversionReviewVersions ?? [];
  const mustKnow = known.length === 0 || known.some((one) => REVIEW_VERSIONS.includes(one));
  checkReviewVersions(
    errors,
    `${path}.conversionReviewVersions`,
    conversionReviewVersions,
    mustKnow,
  );
}

function checkReviewVersions(
  errors: Errors,
  path: string,
  versions: readonly string[],
  mustKnow: boolean,
): void {
  if (versions.length === 0) {
    errors.push(required(path));
    return;
  }
  for (const [i, version] of versions.entries()) {
    if (versions.indexOf(version) < i) {
      errors.push(invalid(`${path}[${i}]`, version, 'duplicate version'));
      continue;
    }
    for (const text of isDns1035Label(version))
      errors.push(invalid(`${path}[${i}]`, version, text));
  }
  if (mustKnow && !versions.some((version) => REVIEW_VERSIONS.includes(version))) {
    const text = `must include at least one of ${REVIEW_VERSIONS.join(', ')}`;
    errors.push(invalid(path, versions, text));
  }
}

function checkClientConfig(
  errors: Errors,
  path: string,
  { url, service }: WebhookClientConfig,
): void {
  if ((url === undefined) === (service === undefined)) {
    errors.push(required(path, 'exactly one of url or service is required'));
  } else if (url !== undefined) checkUrl(errors, `${path}.url`, url);
  else if (service) {
    const at = `${path}.service`;
    if (!service.name) errors.push(required(`${at}.name`));
    if (!service.namespace) errors.push(required(`${at}.namespace`));
    const { port = 0 } = service;
    if (port < 1 || port > 65_535) {
      const text = 'port is not valid: must be between 1 and 65535, inclusive';
      errors.push(invalid(`${at}.port`, port, text));
    }
    if (service.path !== undefined) checkUrlPath(errors, `${at}.path`, service.path);
  }
}

const FORM = '; desired format: https://host[/path]';

function checkUrl(errors: Errors, path: string, text: string): void {
  const match = /^(?:([a-zA-Z][-+.a-zA-Z0-9]*):)?(?:\/\/([^/?#]*))?([^?#]*)(\?[^#]*)?(#.*)?$/.exec(
    text,
  );
  if (!match || /[\s\p{Cc}]/u.test(text)) {
    errors.push(
      required(
        path,
        `url must be a valid URL: parse ${JSON.stringify(text)}: invalid character in URL${FORM}`,
      ),
    );
    return;
  }
  const [, scheme = '', authority = '', , query = '', fragment = ''] = match;
  const at = authority.lastIndexOf('@');
  const host = authority.slice(at + 1);
  if (scheme.toLowerCase() !== 'https') {
    errors.push(invalid(path, scheme, `'https' is the only allowed URL scheme${FORM}`));
  }
  if (host === '') errors.push(invalid(path, host, `host must be specified${FORM}`));
  if (at >= 0) {
    const text = 'user information is not permitted in the URL';
    errors.push(invalid(path, authority.slice(0, at), text));
  }
  if (fragment.length > 1) {
    errors.push(invalid(path, fragment.slice(1), 'fragments are not permitted in the URL'));
  }
  if (query.length > 1) {
    errors.push(invalid(path, query.slice(1), 'query parameters are not permitted in the URL'));
  }
}

function checkUrlPath(errors: Errors, path: string, text: string): void {
  if (text === '' || text === '/') return;
  if (text === '//') {
    errors.push(invalid(path, text, 'segment[0] may not be empty'));
    return;
  }
  if (!text.startsWith('/')) errors.push(invalid(path, text, "must start with a '/'"));
  for (const [i, step] of text.slice(1).replace(/\/$/, '').split('/').entries()) {
    if (step === '') errors.push(invalid(path, text, `segment[${i}] may not be empty`));
    else {
      for (const wrong of isDns1123Subdomain(step)) {
        errors.push(invalid(path, text, `segment[${i}]: ${wrong}`));
      }
    }
  }
}
