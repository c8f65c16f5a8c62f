import { parseQuantity, quantityMilli, quantityValue } from '#api/quantity.ts';
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

export function addAmounts(into: Amounts, more: Amounts): void {
  for (const [name, amount] of more) into.set(name, (into.get(name) ?? 0) + amount);
}

export function subtractAmounts(from: Amounts, less: Amounts): void {
  for (const [name, amount] of less) from.set(name, (from.get(name) ?? 0) - amount);
}

function maxAmounts(into: Amounts, other: Amounts): void {
  for (const [name, amount] of other) into.set(name, Math.max(into.get(name) ?? 0, amount));
}

/**
 * What a pod takes from a node. Containers and sidecars run together, so they add up; an init
 * container runs beside the sidecars started before it, so the larger of both counts; the
 * RuntimeClass overhead comes on top; requests at pod level replace the sum.
 * Source: Kubernetes "Sidecar containers: resource sharing", KEP-2837 pod level resources.
 */
export function podAmounts(spec: PodSpec, what: 'requests' | 'limits'): Amounts {
  const of = (container: Container): Amounts => amountsOf(container.resources?.[what]);
  const sum: Amounts = new Map();
  for (const container of spec.containers) addAmounts(sum, of(container));
  const sidecars: Amounts = new Map();
  const peak: Amounts = new Map();
  for (const container of spec.initContainers ?? []) {
    const own = of(container);
    if (container.restartPolicy === 'Always') {
      addAmounts(sum, own);
      addAmounts(sidecars, own);
      maxAmounts(peak, sidecars);
    } else {
      addAmounts(own, sidecars);
      maxAmounts(peak, own);
    }
  }
  maxAmounts(sum, peak);
  for (const [name, amount] of amountsOf(spec.resources?.[what])) sum.set(name, amount);
  addAmounts(sum, amountsOf(spec.overhead));
  return sum;
}
