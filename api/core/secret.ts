import { coreRules } from '#api/core/core-rules.ts';
import { secretWarnings } from '#api/core/secret-warnings.ts';
import { defineKind } from '#api/kind.ts';
import { integer, text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { decodedLength, MAX_DATA_BYTES } from '#api/core/config-map.ts';
import { forbidden, invalid, required, tooLong } from '#api/field-error.ts';
import { jsonProblem } from '#api/meta/json-problem.ts';
import type { Secret } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkConfigKey, checkImmutable, sameMeaning } from '#api/validate.ts';

/** Source: core/v1 Secret. */
export const secret = defineKind<Secret>({
  group: '',
  version: 'v1',
  kind: 'Secret',
  plural: 'secrets',
  singular: 'secret',
  scope: 'Namespaced',
  schema: 'V1Secret',
  fieldRules: [coreRules, metaRules],
  generation: 'none',
  selectableFields: { type: (object) => object.type ?? '' },
  columns: [
    text('Type', (object) => object.type ?? '', 'V1Secret.type'),
    {
      ...integer<Secret>('Data', (object) => Object.keys(object.data ?? {}).length),
      type: 'string',
      describedBy: 'V1Secret.data',
    },
  ],

  defaults(object) {
    if (!object.type) object.type = 'Opaque';
    foldStringData(object);
  },
  validate(object) {
    const errors: Errors = [];
    let bytes = 0;
    for (const [key, value] of Object.entries(object.data ?? {})) {
      checkConfigKey(errors, `data[${key}]`, key);
      bytes += decodedLength(value ?? '');
    }
    if (bytes > MAX_DATA_BYTES) errors.push(tooLong('data', MAX_DATA_BYTES));
    checkSecretType(errors, object);
    return errors;
  },
  warnings: secretWarnings,
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'type', object.type, old.type);
    if (!old.immutable) return errors;
    if (!object.immutable) errors.push(forbidden('immutable', LOCKED));
    if (!sameMeaning(object.data, old.data)) errors.push(forbidden('data', LOCKED));
    return errors;
  },
});

const LOCKED = 'field is immutable when `immutable` is set';
const ACCOUNT_ANNOTATION = 'kubernetes.io/service-account.name';

/** Each well-known type promises its keys. Source: core/v1 SecretType. */
function checkSecretType(errors: Errors, object: Secret): void {
  const data = object.data ?? {};
  const need = (...keys: string[]): void => {
    for (const key of keys) if (data[key] === undefined) errors.push(required(`data[${key}]`));
  };
  const needJson = (key: string): void => {
    need(key);
    const problem = data[key] === undefined ? '' : jsonProblem(decode(data[key]));
    if (problem) {
      errors.push(invalid(`data[${key}]`, '<secret contents redacted>', problem));
    }
  };
  switch (object.type) {
    case 'kubernetes.io/service-account-token':
      if (!object.metadata.annotations?.[ACCOUNT_ANNOTATION]) {
        errors.push(required(`metadata.annotations[${ACCOUNT_ANNOTATION}]`));
      }
      break;
    case 'kubernetes.io/dockercfg':
      needJson('.dockercfg');
      break;
    case 'kubernetes.io/dockerconfigjson':
      needJson('.dockerconfigjson');
      break;
    case 'kubernetes.io/basic-auth':
      // Either will do.
      if (data['username'] === undefined && data['password'] === undefined) {
        need('username', 'password');
      }
      break;
    case 'kubernetes.io/ssh-auth':
      if (!data['ssh-privatekey']) errors.push(required('data[ssh-privatekey]'));
      break;
    case 'kubernetes.io/tls':
      need('tls.crt', 'tls.key');
      break;
    default:
  }
}

const decode = (text: string): string => Buffer.from(text, 'base64').toString('utf8');

/** `stringData` is write-only: its values go base64-encoded into `data` and win over it. */
function foldStringData(object: Secret): void {
  if (object.stringData === undefined) return;
  const entries = Object.entries(object.stringData ?? {});
  if (entries.length > 0) {
    object.data ??= {};
    for (const [key, value] of entries) {
      object.data[key] = Buffer.from(String(value), 'utf8').toString('base64');
    }
  }
  delete object.stringData;
}
