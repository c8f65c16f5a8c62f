import { compareQuantity, parseQuantity } from '#api/quantity.ts';
import type { Container, PodSpec } from '#api/types.ts';

export type QosClass = 'Guaranteed' | 'Burstable' | 'BestEffort';

const ZERO = parseQuantity('0');
const isPositive = (text: string | undefined): text is string =>
  text !== undefined && text !== '0' && compareQuantity(parseQuantity(text), ZERO) > 0;

type Needs = Pick<Container, 'resources'>;

/**
 * The quality of service that a pod's cpu and memory requests and limits give it: Guaranteed when
 * each container's requests equal its limits in both, BestEffort when none asks for anything.
 * Pod-level resources win over the containers'. Source: core/v1 PodStatus.qosClass.
 */
export function qosClassOf(spec: PodSpec): QosClass {
  const needs: Needs[] = hasEntries(spec.resources)
    ? [{ resources: spec.resources as NonNullable<Needs['resources']> }]
    : [...(spec.containers ?? []), ...(spec.initContainers ?? [])];
  let asks = false;
  let guaranteed = true;
  for (const { resources } of needs) {
    for (const name of ['cpu', 'memory']) {
      const request = resources?.requests?.[name];
      const limit = resources?.limits?.[name];
      if (isPositive(request) || isPositive(limit)) asks = true;
      if (!isPositive(limit) || (isPositive(request) && !sameQuantity(request, limit))) {
        guaranteed = false;
      } else if (!isPositive(request)) guaranteed = false;
    }
  }
  if (!asks) return 'BestEffort';
  return guaranteed ? 'Guaranteed' : 'Burstable';
}

const sameQuantity = (a: string, b: string): boolean =>
  a === b || compareQuantity(parseQuantity(a), parseQuantity(b)) === 0;

const hasEntries = (resources: Needs['resources']): boolean =>
  Object.keys(resources?.requests ?? {}).length + Object.keys(resources?.limits ?? {}).length > 0;
