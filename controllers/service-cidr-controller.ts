import type { IPAddress, ServiceCIDR } from '#api/types.ts';
import { cidrBand, ipNumber } from '#api/validate-network.ts';
import type { Action } from '#client/actions.ts';
import { cacheOf, keyText, onSelf, type Plan, runController } from '#client/controller.ts';
import { ipAddresses, serviceCidrs } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { formatTime } from '#api/time.ts';

const NAME = 'service-cidr-controller';
const FINALIZER = 'networking.k8s.io/service-cidr-finalizer';
/** Until every API server has seen that the range goes, and gives out nothing of it any more. */
const GRACE_MS = 10_000;

export type ServiceCidrWorld = {
  range: ServiceCIDR;
  /** All ranges, this one too. */
  ranges: readonly ServiceCIDR[];
  /** Addresses that Services hold; looked at only when the range goes. */
  addresses: readonly IPAddress[];
  nowMs: number;
};

/**
 * A range of Services is protected as long as addresses are in it that no other range has, and says
 * whether it is Ready to give out more. Pure. Source: KEP-1880, the kube-controller-manager's
 * service-cidr-controller.
 */
export function planServiceCidr(world: ServiceCidrWorld): Plan {
  const { range, nowMs } = world;
  const { deletionTimestamp, finalizers = [] } = range.metadata;
  const write = (next: string[]): Action => ({
    type: 'update',
    resource: serviceCidrs,
    object: { ...range, metadata: { ...range.metadata, finalizers: next } },
  });
  if (!deletionTimestamp) {
    if (!finalizers.includes(FINALIZER)) return { actions: [write([...finalizers, FINALIZER])] };
    const message = 'Kubernetes Service CIDR is ready';
    return { actions: ready(range, { status: 'True', reason: '', message }, nowMs) };
  }
  if (!finalizers.includes(FINALIZER)) return { actions: [] };
  if (isNeeded(world)) {
    const reason = 'Terminating';
    const message =
      'There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR';
    return { actions: ready(range, { status: 'False', reason, message }, nowMs) };
  }
  const leftMs = Date.parse(deletionTimestamp) + GRACE_MS - nowMs;
  if (leftMs > 0) return { actions: [], requeueAfterMs: leftMs };
  return { actions: [write(finalizers.filter((one) => one !== FINALIZER))] };
}

type Verdict = { status: 'True' | 'False'; reason: string; message: string };

function ready(range: ServiceCIDR, verdict: Verdict, nowMs: number): Action[] {
  const conditions = range.status?.conditions ?? [];
  const before = conditions.find(({ type }) => type === 'Ready');
  // The API server says it of its own range in other words.
  const isSame =
    before?.status === verdict.status &&
    (verdict.status === 'True' || before.message === verdict.message);
  if (isSame) return [];
  const lastTransitionTime =
    before?.status === verdict.status && before.lastTransitionTime
      ? before.lastTransitionTime
      : formatTime(nowMs);
  const condition = { type: 'Ready', ...verdict, lastTransitionTime };
  const others = conditions.filter(({ type }) => type !== 'Ready');
  const status = { ...range.status, conditions: [...others, condition] };
  return [{ type: 'updateStatus', resource: serviceCidrs, object: { ...range, status } }];
}

/** Whether some address of a Service is in this range and in no other that stays. */
function isNeeded({ range, ranges, addresses }: ServiceCidrWorld): boolean {
  const own = bandsOf(range);
  const others = ranges
    .filter(({ metadata }) => metadata.name !== range.metadata.name && !metadata.deletionTimestamp)
    .flatMap(bandsOf);
  return addresses.some(({ metadata }) => {
    const { name = '' } = metadata;
    const isIn = ({ version, first, last }: Band): boolean => {
      const number = ipNumber(name);
      return version === (name.includes(':') ? 6 : 4) && number >= first && number <= last;
    };
    return own.some(isIn) && !others.some(isIn);
  });
}

type Band = NonNullable<ReturnType<typeof cidrBand>>;

const bandsOf = ({ spec }: ServiceCIDR): Band[] =>
  (spec?.cidrs ?? []).map(cidrBand).filter((band) => band !== undefined);

/** Sees to the ranges that users add to the one that the API server was started with. */
export const serviceCidrController: ControllerDefinition = {
  name: NAME,
  async run(setup) {
    const { clock, informers } = setup;
    const ranges = informers.of(serviceCidrs);
    const addresses = informers.of(ipAddresses);
    await runController<ServiceCidrWorld>(
      {
        name: NAME,
        caches: [cacheOf(serviceCidrs, ranges), cacheOf(ipAddresses, addresses)],
        triggers(add) {
          onSelf(ranges, add);
          const addLeaving = (): void => {
            for (const range of ranges.list()) {
              if (range.metadata.deletionTimestamp) add(keyText(range));
            }
          };
          ranges.onChange(addLeaving);
          addresses.onChange(({ type }) => {
            if (type !== 'updated') addLeaving();
          });
        },
        observe(key) {
          const range = ranges.get(key);
          if (!range) return undefined;
          const isLeaving = range.metadata.deletionTimestamp !== undefined;
          return {
            range,
            ranges: ranges.list(),
            addresses: isLeaving ? addresses.list() : [],
            nowMs: clock.now(),
          };
        },
        plan: planServiceCidr,
      },
      { ...setup, recorder: setup.recorderOf(NAME) },
    );
  },
};
