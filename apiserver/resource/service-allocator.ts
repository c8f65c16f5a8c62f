import { isHeadless } from '#api/core/service-validate.ts';
import { invalid } from '#api/field-error.ts';
import type { Kind } from '#api/kind.ts';
import { internalError, invalidError } from '#api/status.ts';
import type { KubeObject, Service, ServiceCIDR } from '#api/types.ts';
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

/**
 * The ranges of ServiceCIDR objects that give out addresses: those that say Ready and are not about to
 * go. A network that is too small for a Service is none.
 */
export function readyRanges(objects: readonly ServiceCIDR[]): AddressRange[] {
  const isReady = ({ metadata, status }: ServiceCIDR): boolean =>
    !metadata.deletionTimestamp &&
    (status?.conditions ?? []).some(({ type, status }) => type === 'Ready' && status === 'True');
  return objects
    .filter(isReady)
    .flatMap(({ spec }) => spec?.cidrs ?? [])
    .flatMap((cidr) => {
      try {
        return [parseAddressRange(cidr)];
      } catch (error) {
        if (error instanceof RangeError) return [];
        throw error;
      }
    });
}

export type AllocatorParts = {
  ranges: ServiceRanges;
  /** Ranges that users have added and that are ready; asked when the first ones are full. */
  moreAddresses?: () => readonly AddressRange[];
  records: ServiceRecords;
  /** The service as it is stored by now; undefined when there is none. */
  find: (holder: Holder) => Promise<Service | undefined>;
  random: Random;
};

export function createServiceAllocator(parts: AllocatorParts): ServiceAllocator {
  const { ranges, records, find } = parts;
  const families = ranges.addresses.map((range) => range.family);
  return {
    async reserve(service, old, { dryRun }) {
      const errors = settleFamilies(service, old, families);
      if (errors.length > 0) throw invalidService(service, errors);
      const holder = holderOf(service);
      const hold = holding(parts, { holder, isNew: old === null, dryRun });
      try {
        const all = [...ranges.addresses, ...(parts.moreAddresses?.() ?? [])];
        await assignAddresses(service, old, addressTaker(all, { ...parts, hold }));
        await assignPorts(service, old, portTaker(ranges, { ...parts, hold }));
      } catch (error) {
        await releaseItems(records, hold.taken, holder);
        throw error;
      }
      return {
        async keep() {
          const wanted = namesOf(heldItems(service));
          const over = heldItems(old).filter((item) => !wanted.has(nameOf(item)));
          if (!dryRun) await releaseItems(records, over, holder);
        },
        async undo() {
          if (hold.taken.length === 0) return;
          // Another server may have written the same service meanwhile, on what we hold.
          const used = namesOf(heldItems((await find(holder)) ?? null));
          const free = hold.taken.filter((item) => !used.has(nameOf(item)));
          await releaseItems(records, free, holder);
        },
      };
    },
    release: (service) => releaseItems(records, heldItems(service), holderOf(service)),
  };
}

/** What one write holds so far. */
type Holding = {
  /** Records this write has made: a dry run makes none. */
  taken: readonly Item[];
  dryRun: boolean;
  /** Takes any item that nobody has. */
  takeFree(item: Item): Promise<boolean>;
  /** Takes the item that the user asks for. */
  takeWanted(item: Item): Promise<boolean>;
};

function holding(
  { records, find }: AllocatorParts,
  { holder, isNew, dryRun }: { holder: Holder; isNew: boolean; dryRun: boolean },
): Holding {
  const taken: Item[] = [];
  const ours = new Set<string>();
  const take = async (item: Item, mayAdopt: () => Promise<boolean>): Promise<boolean> => {
    if (ours.has(nameOf(item))) return false;
    if (dryRun) {
      if (records.isTaken(item)) return false;
    } else {
      const taking = await records.take(item, holder);
      if (taking === 'taken') taken.push(item);
      else if (taking === 'other' || !(await mayAdopt())) return false;
    }
    ours.add(nameOf(item));
    return true;
  };
  return {
    taken,
    dryRun,
    takeFree: (item) => take(item, async () => false),
    // A record of this very service that no stored service stands behind is of a write that was
    // cut off, or that another server is just about to do: then the first to write it wins.
    takeWanted: (item) => take(item, async () => !isNew || (await find(holder)) === undefined),
  };
}

const nameOf = ({ type, name }: Item): string => `${type} ${name}`;
const namesOf = (items: readonly Item[]): Set<string> => new Set(items.map(nameOf));

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

type TakerParts = { hold: Holding; records: ServiceRecords; random: Random };

function addressTaker(
  ranges: readonly AddressRange[],
  { hold, records, random }: TakerParts,
): AddressTaker {
  return {
    async takeAny(family) {
      for (const range of ranges.filter((each) => each.family === family)) {
        // A dry run shows that there will be one; which one is not known before.
        if (hold.dryRun) return formatAddress(range.network.first, range.family);
        for (const number of candidates(range, random)) {
          const name = formatAddress(number, range.family);
          if (records.isTaken({ type: 'ip', name })) continue;
          if (await hold.takeFree({ type: 'ip', name })) return name;
        }
      }
      throw internalError('failed to allocate a serviceIP: range is full');
    },
    async take(ip) {
      const name = canonicalAddress(ip);
      const family: IpFamily = name.includes(':') ? 'IPv6' : 'IPv4';
      const number = ipNumber(name);
      const near = ranges.filter(
        (each) => each.family === family && contains(each.network, number),
      );
      const [range] = near;
      if (!range) return 'the provided network does not match the current range';
      if (!near.some((each) => contains(each, number))) {
        return `the provided IP (${name}) is not in the valid range. The range of valid IPs is ${range.cidr}`;
      }
      return (await hold.takeWanted({ type: 'ip', name }))
        ? null
        : 'provided IP is already allocated';
    },
  };
}

function portTaker(
  { ports, portsText }: ServiceRanges,
  { hold, records, random }: TakerParts,
): PortTaker {
  return {
    async take(port) {
      if (!contains(ports, BigInt(port))) {
        return `provided port is not in the valid range. The range of valid ports is ${portsText}`;
      }
      const item: Item = { type: 'port', name: String(port) };
      return (await hold.takeWanted(item)) ? null : 'provided port is already allocated';
    },
    async takeAny() {
      for (const number of candidates(ports, random)) {
        const item: Item = { type: 'port', name: String(number) };
        if (!records.isTaken(item) && (await hold.takeFree(item))) return Number(number);
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
