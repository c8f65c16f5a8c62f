import {
  addQuantity,
  compareQuantity,
  formatQuantity,
  parseQuantity,
  type Quantity,
  quantityMilli,
  quantityValue,
} from '#api/quantity.ts';
import type { Container, PodSpec } from '#api/types.ts';

/**
 * Amounts by resource name. `cpu` is in thousandths of a core; everything else in its base unit
 * (bytes, counts), rounded up.
 */
export type Amounts = Map<string, number>;

/** `{ cpu: '500m', memory: '64Mi' }` as amounts. */
export function amountsOf(list: Readonly<Record<string, string>> | undefined): Amounts {
  const amounts: Amounts = new Map();
  for (const [name, text] of Object.entries(list ?? {})) {
    const quantity = parseQuantity(String(text));
    amounts.set(name, name === 'cpu' ? quantityMilli(quantity) : quantityValue(quantity));
  }
  return amounts;
}

export function addAmounts(into: Amounts, more: Amounts): Amounts {
  for (const [name, amount] of more) into.set(name, (into.get(name) ?? 0) + amount);
  return into;
}

export function subtractAmounts(from: Amounts, less: Amounts): void {
  for (const [name, amount] of less) from.set(name, (from.get(name) ?? 0) - amount);
}

function maxAmounts(into: Amounts, other: Amounts): Amounts {
  for (const [name, amount] of other) into.set(name, Math.max(into.get(name) ?? 0, amount));
  return into;
}

/** How amounts of containers are put together; `add` and `larger` may change and return `into`. */
type Sum<T> = {
  of: (container: Container) => T;
  zero: () => T;
  add: (into: T, more: T) => T;
  larger: (into: T, other: T) => T;
};

/**
 * What a pod's containers take together: main containers and sidecars at once, or the largest init
 * container with the sidecars started before it, whichever is more.
 * Source: Kubernetes "Sidecar containers: resource sharing".
 */
function sumOf<T>(spec: PodSpec, { of, zero, add, larger }: Sum<T>): T {
  let running = zero();
  for (const container of spec.containers ?? []) running = add(running, of(container));
  let sidecars = zero();
  let peak = zero();
  for (const container of spec.initContainers ?? []) {
    const own = of(container);
    if (container.restartPolicy === 'Always') {
      running = add(running, own);
      sidecars = add(sidecars, own);
      peak = larger(peak, sidecars);
    } else peak = larger(peak, add(own, sidecars));
  }
  return larger(running, peak);
}

/**
 * What a pod takes from a node: its containers, the RuntimeClass overhead on top; requests at pod
 * level replace the sum. Source: KEP-2837 pod level resources.
 */
export function podAmounts(spec: PodSpec, what: 'requests' | 'limits'): Amounts {
  const sum = sumOf<Amounts>(spec, {
    of: (container) => amountsOf(container.resources?.[what]),
    zero: () => new Map(),
    add: addAmounts,
    larger: maxAmounts,
  });
  for (const [name, amount] of amountsOf(spec.resources?.[what])) sum.set(name, amount);
  addAmounts(sum, amountsOf(spec.overhead));
  return sum;
}

/** Of one resource, exactly, and of the containers alone; undefined where none names it. */
export function podTotal(
  spec: PodSpec,
  resource: string,
  what: 'requests' | 'limits',
): Quantity | undefined {
  return sumOf<Quantity | undefined>(spec, {
    of(container) {
      const text = container.resources?.[what]?.[resource];
      return text === undefined ? undefined : parseQuantity(text);
    },
    zero: () => undefined,
    add: (a, b) => (a && b ? addQuantity(a, b) : (a ?? b)),
    larger: (a, b) => (a && b && compareQuantity(a, b) < 0 ? b : (a ?? b)),
  });
}

/** The requests, as text. */
export function sumOfRequests(spec: PodSpec, resource: string): string | undefined {
  const total = podTotal(spec, resource, 'requests');
  return total === undefined ? undefined : formatQuantity(total);
}
