import {
  addQuantity,
  compareQuantity,
  formatQuantity,
  parseQuantity,
  type Quantity,
  subtractQuantity,
} from '#api/quantity.ts';
import { isCounted, unsaidResources, type Usage, usageOf } from '#api/quota-usage.ts';
import { forbiddenError } from '#api/status.ts';
import type { Pod, ResourceQuota } from '#api/types.ts';
import type {
  AdmissionContext,
  AdmissionRequest,
  AdmissionRule,
} from '#apiserver/admission-rule.ts';

const ZERO = parseQuantity('0');
/** Kinds whose cost can change after creation. */
const CHANGING = new Set(['services', 'persistentvolumeclaims']);

/**
 * Charges what is created to the quotas of its namespace, by compare-and-swap on their status, and
 * refuses what they cannot bear. What goes away is given back by the quota controller, which also
 * sets a quota's status at first: without it nothing is counted. Source: "Resource Quotas".
 */
export const resourceQuota: AdmissionRule = {
  name: 'ResourceQuota',
  handles: ({ operation, kind, subresource, namespace, object }) =>
    namespace !== '' &&
    subresource === '' &&
    object !== null &&
    (operation === 'CREATE' ||
      (operation === 'UPDATE' && kind.group === '' && CHANGING.has(kind.plural))),
  validate(request, context) {
    const quotas = context.reader.list<ResourceQuota>('', 'resourcequotas', request.namespace);
    return quotas.length === 0 ? undefined : charge(request, context, quotas);
  },
};

async function charge(
  request: AdmissionRequest,
  context: AdmissionContext,
  quotas: readonly ResourceQuota[],
): Promise<void> {
  const { kind, object } = request;
  if (!object) return;
  const counted = quotas.filter((quota) => isCounted(quota, kind, object));
  if (kind.plural === 'pods' && kind.group === '') {
    for (const quota of counted) checkSaid(request, quota);
  }
  const cost = costOf(request);
  const charged = counted.filter((quota) => {
    const names = Object.keys(quota.status?.hard ?? {});
    return names.some((name) => isPositive(cost.get(name)) || isNegative(cost.get(name)));
  });
  for (const quota of charged) checkExceeded(request, quota, cost);
  if (request.dryRun) return;
  for (const quota of charged) await inTurn(request, context, quota.metadata.name ?? '', cost);
}

function costOf({ kind, object, oldObject }: AdmissionRequest): Usage {
  const cost: Usage = object ? usageOf(kind, object) : new Map();
  for (const [name, amount] of oldObject ? usageOf(kind, oldObject) : []) {
    cost.set(name, subtractQuantity(cost.get(name) ?? ZERO, amount));
  }
  return cost;
}

const isPositive = (amount: Quantity | undefined): boolean =>
  amount !== undefined && compareQuantity(amount, ZERO) > 0;
const isNegative = (amount: Quantity | undefined): boolean =>
  amount !== undefined && compareQuantity(amount, ZERO) < 0;

const refuse = ({ kind, name }: AdmissionRequest, why: string): Error =>
  forbiddenError({ group: kind.group, resource: kind.plural }, name, why);

function checkSaid(request: AdmissionRequest, quota: ResourceQuota): void {
  const unsaid = unsaidResources(quota, request.object as Pod);
  if (unsaid.length === 0) return;
  const why = `failed quota: ${quota.metadata.name}: must specify ${unsaid.join('; ')}`;
  throw refuse(request, why);
}

function checkExceeded(request: AdmissionRequest, quota: ResourceQuota, cost: Usage): void {
  const { hard = {}, used = {} } = quota.status ?? {};
  const exceeded = Object.keys(hard)
    .sort()
    .filter((name) => {
      const asked = cost.get(name);
      if (!asked || !isPositive(asked)) return false;
      const total = addQuantity(parseQuantity(used[name] ?? '0'), asked);
      return compareQuantity(total, parseQuantity(hard[name] ?? '0')) > 0;
    });
  if (exceeded.length === 0) return;
  const list = (value: (name: string) => string): string =>
    exceeded.map((name) => `${name}=${value(name)}`).join(',');
  const requested = list((name) => formatQuantity(cost.get(name) ?? ZERO));
  const taken = list((name) => used[name] ?? '0');
  const limited = list((name) => hard[name] ?? '0');
  const name = quota.metadata.name ?? '';
  throw refuse(
    request,
    `exceeded quota: ${name}, requested: ${requested}, used: ${taken}, limited: ${limited}`,
  );
}

/** Many creates at once would chase each other's versions of one quota: here they queue. */
const turns = new Map<string, Promise<void>>();

function inTurn(
  request: AdmissionRequest,
  context: AdmissionContext,
  quota: string,
  cost: Usage,
): Promise<void> {
  const key = `${request.namespace}/${quota}`;
  const before = turns.get(key) ?? Promise.resolve();
  const mine = before.then(() => write(request, context, quota, cost));
  const settled = mine.catch(() => {});
  turns.set(key, settled);
  void settled.then(() => {
    if (turns.get(key) === settled) turns.delete(key);
  });
  return mine;
}

function write(
  request: AdmissionRequest,
  context: AdmissionContext,
  name: string,
  cost: Usage,
): Promise<void> {
  const key = { namespace: request.namespace, name };
  return context.modify<ResourceQuota>('', 'v1', 'resourcequotas', key, (quota) => {
    checkExceeded(request, quota, cost);
    const status = (quota.status ??= {});
    const used = { ...status.used };
    for (const resource of Object.keys(status.hard ?? {})) {
      const asked = cost.get(resource);
      if (!asked) continue;
      const total = addQuantity(parseQuantity(used[resource] ?? '0'), asked);
      used[resource] = formatQuantity(isNegative(total) ? ZERO : total);
    }
    status.used = used;
  });
}
