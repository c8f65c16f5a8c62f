import { isHeadless } from '#api/core/service-validate.ts';
import { invalid } from '#api/field-error.ts';
import type { Kind } from '#api/kind.ts';
import { internalError, invalidError } from '#api/status.ts';
import type { KubeObject, Service } from '#api/types.ts';
import { ipNumber } from '#api/validate-network.ts';
import {
  type AddressRange,
  candidates,
  canonicalAddress,
  contains,
  formatAddress,
  type IpFamily,
  type NumberRange,
  parseAddressRange,
  parsePortRange,
} from '#apiserver/resource/address-range.ts';
import { settleFamilies } from '#apiserver/resource/service-families.ts';
import { assignPorts, heldPorts, type PortTaker } from '#apiserver/resource/service-ports.ts';
import type { Holder, Item, ServiceRecords } from '#apiserver/resource/service-records.ts';
import type { Random } from '#base/random.ts';

/** Where services get their addresses and ports; see service-records.ts for who wins. */
export type ServiceAllocator = {
  /**
   * Fills in families, addresses and node ports of a new service, or of `old` changed, and holds
   * them. Whoever called writes the service and then keeps or undoes the reservation.
   * A dry run holds nothing. Throws StatusError: Invalid, or 500 when a range is full.
   */
  reserve(
    service: Service,
    old: Service | null,
    options: { dryRun: boolean },
  ): Promise<Reservation>;
  /** Gives back everything a removed service held. */
  release(service: Service): Promise<void>;
};

export type Reservation = {
  /** The service is written: what it does not need any more is given back. */
  keep(): Promise<void>;
  /** The service is not written: what it would have needed is given back. */
  undo(): Promise<void>;
};

export type ServiceRanges = {
  /** One range, or one of each family, the default one first. */
  addresses: readonly AddressRange[];
  ports: NumberRange;
  portsText: string;
};

export const DEFAULT_NODE_PORT_RANGE = '30000-32767';

/** Reads the flags; throws RangeError with what would be right. */
export function parseServiceRanges(
  addresses: string,
  ports: string = DEFAULT_NODE_PORT_RANGE,
): ServiceRanges {
  const ranges = addresses.split(',').map((text) => parseAddressRange(text.trim()));
  const families = new Set(ranges.map((range) => range.family));
  if (families.size !== ranges.length) {
    throw new RangeError(`service IP ranges "${addresses}": expected at most one of each family`);
  }
  return { addresses: ranges, ports: parsePortRange(ports), portsText: ports };
}

export function createServiceAllocator(
  ranges: ServiceRanges,
  records: ServiceRecords,
  random: Random,
): ServiceAllocator {
  const families = ranges.addresses.map((range) => range.family);
  return {
    async reserve(service, old, { dryRun }) {
      const errors = settleFamilies(service, old, families);
      if (errors.length > 0) throw invalidService(service, errors);
      const holder = holderOf(service);
      const taken: Item[] = [];
      const take = async (item: Item): Promise<boolean> => {
        const isOurs = taken.some((each) => each.type === item.type && each.name === item.name);
        const free = dryRun ? !isOurs && !records.isTaken(item) : await records.take(item, holder);
        if (free) taken.push(item);
        return free;
      };
      const releaseAll = async (items: readonly Item[]): Promise<void> => {
        if (!dryRun) await releaseItems(records, items, holder);
      };
      const undo = () => releaseAll(taken);
      try {
        await assignAddresses(
          service,
          old,
          addressTaker(ranges.addresses, { take, records, random, dryRun }),
        );
        await assignPorts(service, old, portTaker(ranges, { take, records, random }));
      } catch (error) {
        await undo();
        throw error;
      }
      const wanted = new Set(heldItems(service).map(({ type, name }) => `${type} ${name}`));
      const over = heldItems(old).filter(({ type, name }) => !wanted.has(`${type} ${name}`));
      return { keep: () => releaseAll(over), undo };
    },
    release: (service) => releaseItems(records, heldItems(service), holderOf(service)),
  };
}

/** What cannot be released now, the next repair finds; the write is decided already. */
async function releaseItems(
  records: ServiceRecords,
  items: readonly Item[],
  holder: Holder,
): Promise<void> {
  await Promise.allSettled(items.map((item) => records.release(item, holder)));
}

/** The addresses and ports of a service as records name them. */
export function heldItems(service: Service | null): Item[] {
  return [
    ...heldAddresses(service).map((ip): Item => ({ type: 'ip', name: canonicalAddress(ip) })),
    ...heldPorts(service).map((port): Item => ({ type: 'port', name: String(port) })),
  ];
}

export function holderOf(service: Service): Holder {
  const { namespace = '', name = '' } = service.metadata;
  return { namespace, name };
}

function heldAddresses(service: Service | null): string[] {
  const spec = service?.spec;
  if (!spec || spec.type === 'ExternalName' || isHeadless(spec)) return [];
  const ips = spec.clusterIPs?.length ? spec.clusterIPs : [spec.clusterIP ?? ''];
  return ips.filter((ip) => ip !== '');
}

type AddressTaker = {
  /** Throws StatusError when the range is full. */
  takeAny(family: string): Promise<string>;
  /** Upstream's words for why not; null when it is ours now. */
  take(ip: string): Promise<string | null>;
};

async function assignAddresses(
  service: Service,
  old: Service | null,
  taker: AddressTaker,
): Promise<void> {
  const spec = (service.spec ??= {});
  if (spec.type === 'ExternalName' || isHeadless(spec)) return;
  // Addresses held already stay; that nobody changes them is for validation to say.
  const held = heldAddresses(old).length;
  if (held === 0 && old?.spec && old.spec.type !== 'ExternalName') return;
  const ips = [...(spec.clusterIPs ?? [])];
  for (const [i, family] of (spec.ipFamilies ?? []).entries()) {
    const wanted = ips[i];
    if (i < held) continue;
    if (!wanted) {
      ips[i] = await taker.takeAny(family);
      continue;
    }
    const refusal = await taker.take(wanted);
    if (refusal === null) continue;
    throw invalidService(service, [
      invalid('spec.clusterIPs', spec.clusterIPs, `failed to allocate IP ${wanted}: ${refusal}`),
    ]);
  }
  spec.clusterIPs = ips;
  if (ips[0] !== undefined) spec.clusterIP = ips[0];
}

type TakerParts = {
  take: (item: Item) => Promise<boolean>;
  records: ServiceRecords;
  random: Random;
};

function addressTaker(
  ranges: readonly AddressRange[],
  { take, records, random, dryRun }: TakerParts & { dryRun: boolean },
): AddressTaker {
  return {
    async takeAny(family) {
      for (const range of ranges.filter((each) => each.family === family)) {
        // A dry run shows that there will be one; which one is not known before.
        if (dryRun) return formatAddress(range.network.first, range.family);
        for (const number of candidates(range, random)) {
          const name = formatAddress(number, range.family);
          if (records.isTaken({ type: 'ip', name })) continue;
          if (await take({ type: 'ip', name })) return name;
        }
      }
      throw internalError('failed to allocate a serviceIP: range is full');
    },
    async take(ip) {
      const name = canonicalAddress(ip);
      const family: IpFamily = name.includes(':') ? 'IPv6' : 'IPv4';
      const number = ipNumber(name);
      const range = ranges.find((each) => each.family === family && contains(each.network, number));
      if (!range) return 'the provided network does not match the current range';
      if (!contains(range, number)) {
        return `the provided IP (${name}) is not in the valid range. The range of valid IPs is ${range.cidr}`;
      }
      return (await take({ type: 'ip', name })) ? null : 'provided IP is already allocated';
    },
  };
}

function portTaker(
  { ports, portsText }: ServiceRanges,
  { take, records, random }: TakerParts,
): PortTaker {
  return {
    async take(port) {
      if (!contains(ports, BigInt(port))) {
        return `provided port is not in the valid range. The range of valid ports is ${portsText}`;
      }
      const item: Item = { type: 'port', name: String(port) };
      return (await take(item)) ? null : 'provided port is already allocated';
    },
    async takeAny() {
      for (const number of candidates(ports, random)) {
        const item: Item = { type: 'port', name: String(number) };
        if (!records.isTaken(item) && (await take(item))) return Number(number);
      }
      return null;
    },
  };
}

function invalidService(service: Service, errors: Parameters<typeof invalidError>[2]) {
  return invalidError({ group: '', kind: 'Service' }, service.metadata.name ?? '', errors);
}

/** A write of any kind. */
export type ReservedWrite = {
  allocator: ServiceAllocator | undefined;
  kind: Kind;
  object: KubeObject;
  old: KubeObject | null;
  dryRun: boolean;
};

/**
 * Runs a write with what a service needs reserved: kept when `isWritten` says so, given back when
 * not or when it throws. Other kinds just run.
 */
export async function withReservation<T>(
  { allocator, kind, object, old, dryRun }: ReservedWrite,
  write: () => Promise<T>,
  isWritten: (result: T) => boolean,
): Promise<T> {
  if (!allocator || !isService(kind)) return write();
  const reservation = await allocator.reserve(asService(object), old && asService(old), { dryRun });
  let written = false;
  try {
    const result = await write();
    written = isWritten(result);
    return result;
  } finally {
    await (written ? reservation.keep() : reservation.undo());
  }
}

export const isService = (kind: Kind): boolean => kind.group === '' && kind.plural === 'services';

/** An object of kind Service, as its typed self. */
export const asService = (object: KubeObject): Service => object as unknown as Service;
