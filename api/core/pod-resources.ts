import { addQuantity, compareQuantity, formatQuantity, parseQuantity } from '#api/quantity.ts';
import type { Quantity } from '#api/quantity.ts';
import type { Container, PodSpec } from '#api/types.ts';

const requestOf = (container: Container, resource: string): Quantity | undefined => {
  const text = container.resources?.requests?.[resource];
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
  let running: Quantity | undefined;
  for (const container of spec.containers ?? []) {
    running = add(running, requestOf(container, resource));
  }
  let sidecars: Quantity | undefined;
  let initPeak: Quantity | undefined;
  for (const container of spec.initContainers ?? []) {
    const request = requestOf(container, resource);
    if (container.restartPolicy === 'Always') {
      running = add(running, request);
      sidecars = add(sidecars, request);
      initPeak = larger(initPeak, sidecars);
    } else {
      initPeak = larger(initPeak, add(sidecars, request));
    }
  }
  const total = larger(running, initPeak);
  return total === undefined ? undefined : formatQuantity(total);
}
