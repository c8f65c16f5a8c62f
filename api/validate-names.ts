const LABEL_MAX = 63;
const SUBDOMAIN_MAX = 253;

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const UNDERSCORE_SUBDOMAIN =
  /^_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$/;
const HEADER_NAME = /^[-A-Za-z0-9]+$/;
const DNS_1035 = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const WILDCARD = /^\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const QUALIFIED = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;
const CONFIG_KEY = /^[-._a-zA-Z0-9]+$/;
const C_IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_]*$/;
const PORT_NAME = /^[-a-z0-9]+$/;

/** How messages name the expressions: without anchors. */
const shown = (pattern: RegExp): string => pattern.source.slice(1, -1).replaceAll('\\/', '/');

const regexMessage = (text: string, pattern: string, ...examples: string[]): string => {
  if (examples.length === 0) return `${text} (regex used for validation is '${pattern}')`;
  const list = examples.map((example) => `'${example}'`).join(',  or ');
  return `${text} (e.g. ${list}, regex used for validation is '${pattern}')`;
};

export const maxLength = (length: number): string => `must be no more than ${length} characters`;
export const maxBytes = (length: number): string => `must be no more than ${length} bytes`;
export const EMPTY = 'must be non-empty';

const LABEL_MESSAGE = regexMessage(
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
  shown(LABEL),
  'my-name',
  '123-abc',
);
const SUBDOMAIN_MESSAGE = regexMessage(
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
  shown(SUBDOMAIN),
  'example.com',
);
const DNS_1035_MESSAGE = regexMessage(
  "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
  shown(DNS_1035),
  'my-name',
  'abc-123',
);
const WILDCARD_MESSAGE = regexMessage(
  "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
  shown(WILDCARD),
  '*.example.com',
);
const QUALIFIED_TEXT =
  "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const QUALIFIED_MESSAGE = regexMessage(
  QUALIFIED_TEXT,
  shown(QUALIFIED),
  'MyName',
  'my.name',
  '123-abc',
);
const QUALIFIED_WITH_PREFIX = `a qualified name ${regexMessage(
  QUALIFIED_TEXT,
  shown(QUALIFIED),
  'MyName',
  'my.name',
  '123-abc',
)} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`;
const LABEL_VALUE_MESSAGE = regexMessage(
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
  shown(LABEL_VALUE),
  'MyValue',
  'my_value',
  '12345',
);

/** A DNS-1123 label. Source: RFC 1123; names of objects in the API reference. */
export function isDns1123Label(value: string): string[] {
  const messages: string[] = [];
  if (value.length > LABEL_MAX) messages.push(maxLength(LABEL_MAX));
  if (!LABEL.test(value)) {
    // A dot is the likely mistake of who thinks of a subdomain.
    messages.push(SUBDOMAIN.test(value) ? 'must not contain dots' : LABEL_MESSAGE);
  }
  return messages;
}

export function isDns1123Subdomain(value: string): string[] {
  const messages: string[] = [];
  if (value.length > SUBDOMAIN_MAX) messages.push(maxLength(SUBDOMAIN_MAX));
  if (!SUBDOMAIN.test(value)) messages.push(SUBDOMAIN_MESSAGE);
  return messages;
}

/** Search domains and the like, where labels may begin with an underscore. */
export function isDns1123SubdomainWithUnderscore(value: string): string[] {
  const messages: string[] = [];
  if (value.length > SUBDOMAIN_MAX) messages.push(maxLength(SUBDOMAIN_MAX));
  if (!UNDERSCORE_SUBDOMAIN.test(value)) {
    messages.push(
      regexMessage(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
        shown(UNDERSCORE_SUBDOMAIN),
        'example.com',
      ),
    );
  }
  return messages;
}

/** Names of HTTP headers, as probes send them. */
export const isHttpHeaderName = (value: string): string[] =>
  HEADER_NAME.test(value)
    ? []
    : [
        regexMessage(
          "a valid HTTP header must consist of alphanumeric characters or '-'",
          shown(HEADER_NAME),
          'X-Header-Name',
        ),
      ];

/** A DNS-1035 label: starts with a letter. */
export function isDns1035Label(value: string): string[] {
  const messages: string[] = [];
  if (value.length > LABEL_MAX) messages.push(maxLength(LABEL_MAX));
  if (!DNS_1035.test(value)) messages.push(DNS_1035_MESSAGE);
  return messages;
}

export function isWildcardDns1123Subdomain(value: string): string[] {
  const messages: string[] = [];
  if (value.length > SUBDOMAIN_MAX) messages.push(maxLength(SUBDOMAIN_MAX));
  if (!WILDCARD.test(value)) messages.push(WILDCARD_MESSAGE);
  return messages;
}

/** A label key or the like: `name` or `prefix/name`. */
export function isQualifiedName(value: string): string[] {
  const parts = value.split('/');
  const messages: string[] = [];
  let name = value;
  if (parts.length === 2) {
    const prefix = parts[0] ?? '';
    name = parts[1] ?? '';
    if (prefix === '') messages.push(`prefix part ${EMPTY}`);
    else messages.push(...isDns1123Subdomain(prefix).map((message) => `prefix part ${message}`));
  } else if (parts.length !== 1) {
    return [QUALIFIED_WITH_PREFIX];
  }
  if (name === '') messages.push(`name part ${EMPTY}`);
  else if (name.length > LABEL_MAX) messages.push(`name part ${maxBytes(LABEL_MAX)}`);
  if (!QUALIFIED.test(name)) messages.push(`name part ${QUALIFIED_MESSAGE}`);
  return messages;
}

/** The same rules, in other words where a key has too many parts. */
export const isLabelKey = (value: string): string[] =>
  isQualifiedName(value).map((message) =>
    message === QUALIFIED_WITH_PREFIX
      ? message.replace('a qualified name', 'a valid label key')
      : message,
  );

export function isLabelValue(value: string): string[] {
  const messages: string[] = [];
  if (value.length > LABEL_MAX) messages.push(maxBytes(LABEL_MAX));
  if (!LABEL_VALUE.test(value)) messages.push(LABEL_VALUE_MESSAGE);
  return messages;
}

/** A key of a ConfigMap or Secret; also a file's name. */
export function isConfigMapKey(value: string): string[] {
  const messages: string[] = [];
  if (value.length > SUBDOMAIN_MAX) messages.push(maxLength(SUBDOMAIN_MAX));
  if (!CONFIG_KEY.test(value)) {
    messages.push(
      regexMessage(
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
        shown(CONFIG_KEY),
        'key.name',
        'KEY_NAME',
        'key-name',
      ),
    );
  }
  messages.push(...noParentPath(value));
  return messages;
}

function noParentPath(value: string): string[] {
  if (value === '.') return ["must not be '.'"];
  if (value === '..') return ["must not be '..'"];
  if (value.startsWith('..')) return ["must not start with '..'"];
  return [];
}

/** A C identifier. */
export const isCIdentifier = (value: string): string[] =>
  C_IDENTIFIER.test(value)
    ? []
    : [
        regexMessage(
          "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
          shown(C_IDENTIFIER),
          'my_name',
          'MY_NAME',
          'MyName',
        ),
      ];

/** Environment variables: every printable ASCII character but `=`. */
export function isEnvVarName(value: string): string[] {
  const messages: string[] = [];
  if (value === '') messages.push('environment variable names must be non-empty');
  if (!/^[ -<>-~]+$/.test(value)) {
    messages.push(
      "a valid environment variable name must consist only of printable ASCII characters other than '='",
    );
  }
  return messages;
}

/** Source: RFC 6335 service names. */
export function isPortName(value: string): string[] {
  const messages: string[] = [];
  if (value.length > 15) messages.push(maxLength(15));
  if (!PORT_NAME.test(value)) {
    messages.push('must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)');
  }
  if (!/[a-z]/.test(value)) messages.push('must contain at least one letter (a-z)');
  if (value.includes('--')) messages.push('must not contain consecutive hyphens');
  if (value !== '' && (value.startsWith('-') || value.endsWith('-'))) {
    messages.push('must not begin or end with a hyphen');
  }
  return messages;
}

/** Any name that can be one segment of a URL path. */
export function isPathSegment(value: string, prefix = false): string[] {
  if (!prefix && (value === '.' || value === '..')) return [`may not be '${value}'`];
  return ['/', '%']
    .filter((character) => value.includes(character))
    .map((character) => `may not contain '${character}'`);
}

type NameRule = (name: string, prefix: boolean) => string[];

/** The generated part follows a prefix, so that it may end with a dash. */
const masked =
  (rule: (value: string) => string[]): NameRule =>
  (name, prefix) =>
    rule(prefix && name.endsWith('-') && name.length > 1 ? `${name.slice(0, -1)}a` : name);

export const nameIsDnsSubdomain = masked(isDns1123Subdomain);
export const nameIsDnsLabel = masked(isDns1123Label);
export const nameIsDns1035Label = masked(isDns1035Label);
