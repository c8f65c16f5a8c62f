import { addQuantity, compareQuantity, formatQuantity, parseQuantity } from '#api/quantity.ts';
import type { Quantity } from '#api/quantity.ts';
import type { Container, PodSpec } from '#api/types.ts';

type AmountList = 'requests' | 'limits';

const amountOf = (
  container: Container,
  resource: string,
  list: AmountList,
): Quantity | undefined => {
  const text = container.resources?.[list]?.[resource];
  return text === undefined ? undefined : parseQuantity(text);
};

const add = (a: Quantity | undefined, b: Quantity | undefined): Quantity | undefined =>
  a === undefined ? b : b === undefined ? a : addQuantity(a, b);

const larger = (a: Quantity | undefined, b: Quantity | undefined): Quantity | undefined =>
  a === undefined ? b : b === undefined || compareQuantity(a, b) >= 0 ? a : b;

/**
 * What a pod's containers ask for together of one resource: main containers and sidecars at once,
 * or the largest init container with the sidecars started before it, whichever is more. Undefined
 * where no container names the resource. Source: pod resource requests in the API reference.
 */
export function sumOfRequests(spec: PodSpec, resource: string): string | undefined {
  const total = podTotal(spec, resource, 'requests');
  return total === undefined ? undefined : formatQuantity(total);
}

/** The same as a quantity, for requests or limits. */
export function podTotal(spec: PodSpec, resource: string, list: AmountList): Quantity | undefined {
  let running: Quantity | undefined;
  for (const container of spec.containers ?? []) {
    running = add(running, amountOf(container, resource, list));
  }
  let sidecars: Quantity | undefined;
  let initPeak: Quantity | undefined;
  for (const container of spec.initContainers ?? []) {
    const amount = amountOf(container, resource, list);
    if (container.restartPolicy === 'Always') {
      running = add(running, amount);
      sidecars = add(sidecars, amount);
      initPeak = larger(initPeak, sidecars);
    } else {
      initPeak = larger(initPeak, add(sidecars, amount));
    }
  }
  return larger(running, initPeak);
}
