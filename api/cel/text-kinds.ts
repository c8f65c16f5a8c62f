import { uriProblem } from '#api/cel/net.ts';
import { type Overload, overload } from '#api/cel/function.ts';
import { CelError, CelList, NONE, Opaque, Optional, type Value } from '#api/cel/values.ts';
import {
  addQuantity,
  compareQuantity,
  parseQuantity,
  type Quantity,
  QuantityError,
  subtractQuantity,
  wholeQuantity,
} from '#api/quantity.ts';
import {
  isDns1035Label,
  isDns1123Label,
  isDns1123Subdomain,
  isLabelValue,
  isQualifiedName,
  nameIsDns1035Label,
  nameIsDnsLabel,
  nameIsDnsSubdomain,
} from '#api/validate-names.ts';

/** Texts with a meaning. Source: Kubernetes CEL "quantity", "semver" and "format" libraries. */

const NANO = 1_000_000_000n;
const INT_MAX = 2n ** 63n - 1n;

type QuantityValue = Opaque<Quantity>;

const quantityValue = (quantity: Quantity): QuantityValue =>
  new Opaque('kubernetes.Quantity', quantity, (other) => compareQuantity(quantity, other) === 0);

function quantityOf(text: string): Quantity | CelError {
  try {
    return parseQuantity(text);
  } catch (error) {
    if (!(error instanceof QuantityError)) throw error;
    return new CelError(error.message);
  }
}

const wholeOf = ({ nano }: Quantity): bigint | null =>
  nano % NANO === 0n && nano / NANO <= INT_MAX && nano / NANO >= -INT_MAX ? nano / NANO : null;

const quantityFunctions: Overload[] = [
  overload('quantity', '(string) kubernetes.Quantity', (text: string) => {
    const quantity = quantityOf(text);
    return quantity instanceof CelError ? quantity : quantityValue(quantity);
  }),
  overload(
    'isQuantity',
    '(string) bool',
    (text: string) => !(quantityOf(text) instanceof CelError),
  ),
  overload('sign', 'kubernetes.Quantity.() int', ({ value }: QuantityValue) =>
    value.nano < 0n ? -1n : value.nano > 0n ? 1n : 0n,
  ),
  overload(
    'isGreaterThan',
    'kubernetes.Quantity.(kubernetes.Quantity) bool',
    (a: QuantityValue, b: QuantityValue) => compareQuantity(a.value, b.value) > 0,
  ),
  overload(
    'isLessThan',
    'kubernetes.Quantity.(kubernetes.Quantity) bool',
    (a: QuantityValue, b: QuantityValue) => compareQuantity(a.value, b.value) < 0,
  ),
  overload(
    'compareTo',
    'kubernetes.Quantity.(kubernetes.Quantity) int',
    (a: QuantityValue, b: QuantityValue) => BigInt(compareQuantity(a.value, b.value)),
  ),
  overload(
    'asApproximateFloat',
    'kubernetes.Quantity.() double',
    ({ value }: QuantityValue) => Number(value.nano) / Number(NANO),
  ),
  overload(
    'asInteger',
    'kubernetes.Quantity.() int',
    ({ value }: QuantityValue) => wholeOf(value) ?? new CelError('cannot convert value to integer'),
  ),
  overload(
    'isInteger',
    'kubernetes.Quantity.() bool',
    ({ value }: QuantityValue) => wholeOf(value) !== null,
  ),
  ...(['add', 'sub'] as const).flatMap((name) => {
    const combine = name === 'add' ? addQuantity : subtractQuantity;
    return [
      overload(
        name,
        'kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity',
        (a: QuantityValue, b: QuantityValue) => quantityValue(combine(a.value, b.value)),
      ),
      overload(
        name,
        'kubernetes.Quantity.(int) kubernetes.Quantity',
        (a: QuantityValue, b: bigint) => quantityValue(combine(a.value, wholeQuantity(Number(b)))),
      ),
    ];
  }),
];

type Semver = { numbers: readonly [bigint, bigint, bigint]; pre: readonly string[]; text: string };
type SemverValue = Opaque<Semver>;

const SEMVER =
  /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?$/;

function semverOf(given: string, normalize: boolean): Semver | CelError {
  const text = normalize ? normalized(given) : given;
  if (text instanceof CelError) return text;
  const match = SEMVER.exec(text);
  if (!match) {
    const parts = text.split('.').length;
    return new CelError(
      text === ''
        ? 'Version string empty'
        : parts < 3
          ? 'No Major.Minor.Patch elements found'
          : `Invalid character(s) found in version "${text}"`,
    );
  }
  const [, major = '0', minor = '0', patch = '0', pre] = match;
  return {
    numbers: [BigInt(major), BigInt(minor), BigInt(patch)],
    pre: pre ? pre.split('.') : [],
    text,
  };
}

/** Without `v`, leading zeros, and with the parts that are missing. */
function normalized(given: string): string | CelError {
  const [major = '', minor, ...rest] = given.replace(/^v/, '').split('.');
  const parts = [major, ...(minor === undefined ? [] : [minor])];
  if (rest.length > 0) parts.push(rest.join('.'));
  const plain = parts.map((part) => part.replace(/^0+(?=\d)/, ''));
  if (plain.length < 3 && /[+-]/.test(plain.at(-1) ?? '')) {
    return new CelError('short version cannot contain PreRelease/Build meta data');
  }
  while (plain.length < 3) plain.push('0');
  return plain.join('.');
}

function compareSemver(a: Semver, b: Semver): number {
  for (let i = 0; i < 3; i++) {
    const left = a.numbers[i] ?? 0n;
    const right = b.numbers[i] ?? 0n;
    if (left !== right) return left < right ? -1 : 1;
  }
  if (a.pre.length === 0 || b.pre.length === 0) return Math.sign(b.pre.length - a.pre.length);
  for (let i = 0; i < Math.min(a.pre.length, b.pre.length); i++) {
    const order = compareIdentifiers(a.pre[i] ?? '', b.pre[i] ?? '');
    if (order !== 0) return order;
  }
  return Math.sign(a.pre.length - b.pre.length);
}

function compareIdentifiers(a: string, b: string): number {
  if (a === b) return 0;
  const numbers = [a, b].map((one) => /^\d+$/.test(one));
  if (numbers[0] && numbers[1]) return BigInt(a) < BigInt(b) ? -1 : 1;
  if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
  return a < b ? -1 : 1;
}

function semverValue(text: string, normalize: boolean): Value {
  const version = semverOf(text, normalize);
  if (version instanceof CelError) return version;
  return new Opaque(
    'kubernetes.Semver',
    version,
    (other: Semver) => compareSemver(version, other) === 0,
  );
}

const order = (name: string, result: string, test: (order: number) => Value): Overload =>
  overload(
    name,
    `kubernetes.Semver.(kubernetes.Semver) ${result}`,
    (a: SemverValue, b: SemverValue) => test(compareSemver(a.value, b.value)),
  );

const semverFunctions: Overload[] = [
  overload('semver', '(string) kubernetes.Semver', (text: string) => semverValue(text, false)),
  overload('semver', '(string, bool) kubernetes.Semver', semverValue),
  overload(
    'isSemver',
    '(string) bool',
    (text: string) => !(semverOf(text, false) instanceof CelError),
  ),
  overload(
    'isSemver',
    '(string, bool) bool',
    (text: string, normalize: boolean) => !(semverOf(text, normalize) instanceof CelError),
  ),
  order('isGreaterThan', 'bool', (found) => found > 0),
  order('isLessThan', 'bool', (found) => found < 0),
  order('compareTo', 'int', (found) => BigInt(found)),
  ...(['major', 'minor', 'patch'] as const).map((name, i) =>
    overload(name, 'kubernetes.Semver.() int', (one: SemverValue) => one.value.numbers[i] ?? 0n),
  ),
];

type Format = { name: string; check: (text: string) => readonly string[] };

const test =
  (pattern: RegExp, message: string) =>
  (text: string): readonly string[] =>
    pattern.test(text) ? [] : [message];

const DATE = /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$/;
const DATE_TIME =
  /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])[Tt ](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)?$/;

const FORMATS: Readonly<Record<string, Format['check']>> = {
  dns1123Label: isDns1123Label,
  dns1123Subdomain: isDns1123Subdomain,
  dns1035Label: isDns1035Label,
  qualifiedName: isQualifiedName,
  dns1123LabelPrefix: (text) => nameIsDnsLabel(text, true),
  dns1123SubdomainPrefix: (text) => nameIsDnsSubdomain(text, true),
  dns1035LabelPrefix: (text) => nameIsDns1035Label(text, true),
  labelValue: isLabelValue,
  uri: (text) => {
    const problem = uriProblem(text);
    return problem === null ? [] : [problem];
  },
  uuid: test(
    /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i,
    'does not match the UUID format',
  ),
  byte: test(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/, 'invalid base64'),
  date: test(DATE, 'invalid date'),
  datetime: test(DATE_TIME, 'invalid datetime'),
};

const formatValue = (name: string): Value => {
  const check = FORMATS[name];
  if (!check) return NONE;
  return new Opaque<Format>(
    'kubernetes.NamedFormat',
    { name, check },
    (other) => other.name === name,
  );
};

const formatFunctions: Overload[] = [
  overload('format.named', '(string) optional<kubernetes.NamedFormat>', (name: string) =>
    Object.hasOwn(FORMATS, name) ? new Optional(formatValue(name)) : NONE,
  ),
  overload(
    'validate',
    'kubernetes.NamedFormat.(string) optional<list<string>>',
    (format: Opaque<Format>, text: string) => {
      const problems = format.value.check(text);
      return problems.length === 0 ? NONE : new Optional(new CelList(problems));
    },
  ),
  ...Object.keys(FORMATS).map((name) =>
    overload(`format.${name}`, '() kubernetes.NamedFormat', () => formatValue(name)),
  ),
];

export const textKindFunctions: readonly Overload[] = [
  ...quantityFunctions,
  ...semverFunctions,
  ...formatFunctions,
];
