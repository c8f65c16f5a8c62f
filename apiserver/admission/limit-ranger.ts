import { podTotal } from '#api/pod-resources.ts';
import { compareQuantity, formatQuantity, parseQuantity, type Quantity } from '#api/quantity.ts';
import { forbiddenError } from '#api/status.ts';
import type { Container, KubeObject, LimitRange, Pod } from '#api/types.ts';
import type {
  AdmissionContext,
  AdmissionRequest,
  AdmissionRule,
} from '#apiserver/admission-rule.ts';
import { isPod } from '#apiserver/admission-pods.ts';

type Limit = NonNullable<LimitRange['spec']>['limits'][number];
type Amounts = Readonly<Record<string, string>>;
type Claim = KubeObject & { spec?: { resources?: { requests?: Amounts } } };

const ANNOTATION = 'kubernetes.io/limit-ranger';

/**
 * Fills in what containers leave out, and refuses pods and claims outside the bounds of their
 * namespace's limit ranges. Source: Kubernetes "Limit Ranges".
 */
export const limitRanger: AdmissionRule = {
  name: 'LimitRanger',
  handles: (request) =>
    (isPod(request) && request.operation === 'CREATE') ||
    (isClaim(request) && (request.operation === 'CREATE' || request.operation === 'UPDATE')),
  mutate(request, context) {
    if (!isPod(request)) return;
    for (const range of rangesOf(request, context)) setDefaults(request.object as Pod, range);
  },
  validate(request, context) {
    const errors = rangesOf(request, context).flatMap((range) =>
      (range.spec?.limits ?? []).flatMap((limit) => checkLimit(limit, request)),
    );
    if (errors.length === 0) return;
    const why = errors.length === 1 ? (errors[0] ?? '') : `[${errors.join(', ')}]`;
    throw forbiddenError({ group: '', resource: request.kind.plural }, request.name, why);
  },
};

const isClaim = ({ kind, subresource, object }: AdmissionRequest): boolean =>
  kind.group === '' &&
  kind.plural === 'persistentvolumeclaims' &&
  subresource === '' &&
  object !== null;

const rangesOf = (request: AdmissionRequest, { reader }: AdmissionContext) =>
  reader.list<LimitRange>('', 'limitranges', request.namespace);

function setDefaults(pod: Pod, range: LimitRange): void {
  const limits = (range.spec?.limits ?? []).filter(({ type }) => type === 'Container');
  const requests = Object.assign({}, ...limits.map((one) => one.defaultRequest)) as Amounts;
  const maxima = Object.assign({}, ...limits.map((one) => one.default)) as Amounts;
  const notes: string[] = [];
  const fill = (container: Container, word: string): void => {
    for (const [list, defaults] of [
      ['requests', requests],
      ['limits', maxima],
    ] as const) {
      const present = container.resources?.[list] ?? {};
      const missing = Object.keys(defaults)
        .filter((name) => present[name] === undefined)
        .sort();
      if (missing.length === 0) continue;
      container.resources = { ...container.resources, [list]: { ...defaults, ...present } };
      notes.push(`${missing.join(', ')} ${list.slice(0, -1)} for ${word} ${container.name}`);
    }
  };
  for (const container of pod.spec.containers) fill(container, 'container');
  for (const container of pod.spec.initContainers ?? []) fill(container, 'init container');
  if (notes.length === 0) return;
  const text = `LimitRanger plugin set: ${notes.join('; ')}`;
  pod.metadata.annotations = { ...pod.metadata.annotations, [ANNOTATION]: text };
}

/** What an object asks for and is bound to, by resource; undefined where it says nothing. */
type Usage = (resource: string, list: 'requests' | 'limits') => Quantity | undefined;

function checkLimit(limit: Limit, request: AdmissionRequest): string[] {
  if (isClaim(request)) {
    if (limit.type !== 'PersistentVolumeClaim') return [];
    const { requests } = (request.object as Claim).spec?.resources ?? {};
    const usage: Usage = (name) => quantityOf(requests?.[name]);
    return [...checkMin(limit, usage), ...checkMaxRequest(limit, usage)];
  }
  const { spec } = request.object as Pod;
  switch (limit.type) {
    case 'Container':
      return [...spec.containers, ...(spec.initContainers ?? [])].flatMap(({ resources }) =>
        checkBounds(limit, (name, list) => quantityOf(resources?.[list]?.[name])),
      );
    case 'Pod':
      return checkBounds(limit, (name, list) => podTotal(spec, name, list));
    default:
      return [];
  }
}

const quantityOf = (text: string | undefined): Quantity | undefined =>
  text === undefined ? undefined : parseQuantity(text);

const checkBounds = (limit: Limit, usage: Usage): string[] => [
  ...checkMin(limit, usage),
  ...checkMax(limit, usage),
  ...checkRatio(limit, usage),
];

const sorted = (amounts: Amounts | undefined): [string, string][] =>
  Object.entries(amounts ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));

const isLess = (a: Quantity, b: Quantity): boolean => compareQuantity(a, b) < 0;

function checkMin({ min, type }: Limit, usage: Usage): string[] {
  return sorted(min).flatMap(([name, text]) => {
    const bound = parseQuantity(text);
    const rule = `minimum ${name} usage per ${type} is ${text}`;
    const request = usage(name, 'requests');
    const limit = usage(name, 'limits');
    if (!request) return [`${rule}.  No request is specified`];
    if (isLess(request, bound)) return [`${rule}, but request is ${formatQuantity(request)}`];
    if (limit && isLess(limit, bound)) return [`${rule}, but limit is ${formatQuantity(limit)}`];
    return [];
  });
}

function checkMax({ max, type }: Limit, usage: Usage): string[] {
  return sorted(max).flatMap(([name, text]) => {
    const bound = parseQuantity(text);
    const rule = `maximum ${name} usage per ${type} is ${text}`;
    const request = usage(name, 'requests');
    const limit = usage(name, 'limits');
    if (!limit) return [`${rule}.  No limit is specified`];
    if (isLess(bound, limit)) return [`${rule}, but limit is ${formatQuantity(limit)}`];
    if (request && isLess(bound, request)) {
      return [`${rule}, but request is ${formatQuantity(request)}`];
    }
    return [];
  });
}

function checkMaxRequest({ max, type }: Limit, usage: Usage): string[] {
  return sorted(max).flatMap(([name, text]) => {
    const rule = `maximum ${name} usage per ${type} is ${text}`;
    const request = usage(name, 'requests');
    if (!request) return [`${rule}.  No request is specified`];
    if (!isLess(parseQuantity(text), request)) return [];
    return [`${rule}, but request is ${formatQuantity(request)}`];
  });
}

function checkRatio({ maxLimitRequestRatio, type }: Limit, usage: Usage): string[] {
  return sorted(maxLimitRequestRatio).flatMap(([name, text]) => {
    const rule = `${name} max limit to request ratio per ${type} is ${text}`;
    const request = Number(usage(name, 'requests')?.nano ?? 0);
    const limit = Number(usage(name, 'limits')?.nano ?? 0);
    if (request === 0) return [`${rule}, but no request is specified or request is 0`];
    if (limit === 0) return [`${rule}, but no limit is specified or limit is 0`];
    const ratio = limit / request;
    const bound = Number(parseQuantity(text).nano) / 1e9;
    return ratio > bound ? [`${rule}, but provided ratio is ${ratio.toFixed(6)}`] : [];
  });
}
