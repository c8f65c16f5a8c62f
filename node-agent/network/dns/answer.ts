import type { Answer, Question, SoaAnswer, SrvAnswer, StringAnswer } from 'dns-packet';
import type { Endpoint, EndpointSlice, Service } from '#api/types.ts';
import { type Cidr, cidrContains, formatAddress, parseAddress } from '../addresses.ts';

/** What the cluster knows, as far as names are concerned. */
export type DnsView = {
  /** False while the view may still lack things: then nothing is said not to exist. */
  isComplete(): boolean;
  /** Without dots at its ends: `cluster.local`. */
  domain: string;
  ttlSeconds: number;
  service(namespace: string, name: string): Service | undefined;
  /** Slices of one Service. */
  slices(namespace: string, name: string): readonly EndpointSlice[];
  hasNamespace(namespace: string): boolean;
  /** The Service with that cluster address. */
  serviceByAddress(address: string): Service | undefined;
  /** Slices that name that endpoint address. */
  slicesByAddress(address: string): readonly EndpointSlice[];
  /** Networks of pods and Services: nobody else can know names for their addresses. */
  ownNetworks: readonly Cidr[];
};

export type DnsAnswer =
  /** Not a name of this cluster. */
  | { type: 'forward' }
  | { type: 'nxdomain'; authorities: Answer[] }
  /** Without answers: the name exists, but has no record of the type that was asked for. */
  | { type: 'found'; answers: Answer[]; additionals: Answer[]; authorities: Answer[] }
  /** An alias for a name outside, whose records belong into the same answer. */
  | { type: 'alias'; answers: Answer[]; target: string };

/** An alias that leads to an alias, and so on, ends here. */
const MAX_ALIASES = 8;
const SCHEMA_VERSION = '1.1.0';

/**
 * Answers a question about the cluster's own names, or says that somebody else must. Pure.
 * Source: Kubernetes DNS-Based Service Discovery, specification 1.1.
 */
export function answer(question: Question, view: DnsView): DnsAnswer {
  const name = question.name.toLowerCase().replace(/\.$/, '');
  if (name.endsWith('.in-addr.arpa') || name.endsWith('.ip6.arpa'))
    return answerReverse(question, name, view);
  const labels = labelsBelow(name, view.domain);
  if (!labels) return { type: 'forward' };
  return answerLabels(question, labels, view, 0);
}

/** Labels of `name` below `domain`, the nearest to it last; undefined when it is not below. */
function labelsBelow(name: string, domain: string): string[] | undefined {
  if (name === domain) return [];
  return name.endsWith(`.${domain}`) ? name.slice(0, -domain.length - 1).split('.') : undefined;
}

function answerLabels(
  question: Question,
  labels: readonly string[],
  view: DnsView,
  aliases: number,
): DnsAnswer {
  const context: Context = { question, view, aliases };
  const kind = labels.at(-1);
  const namespace = labels.at(-2);
  if (kind === undefined) return apex(context);
  if (kind === 'dns-version' && labels.length === 1)
    return found(context, [{ ...record(context), type: 'TXT', data: SCHEMA_VERSION }]);
  if (kind === 'pod') return answerPod(context, labels);
  if (kind !== 'svc') return missing(context);
  if (namespace === undefined) return found(context, []);
  const name = labels.at(-3);
  if (name === undefined)
    return view.hasNamespace(namespace) ? found(context, []) : missing(context);
  const service = view.service(namespace, name);
  if (!service) return missing(context);
  const rest = labels.slice(0, -3);
  if (service.spec?.type === 'ExternalName')
    return rest.length === 0 ? answerAlias(context, service) : missing(context);
  if (rest.length === 0) return answerService(context, service);
  if (rest.length === 2 && rest.every((label) => label.startsWith('_')))
    return answerPort(context, service, rest);
  return rest.length === 1 ? answerEndpoint(context, service, rest[0] ?? '') : missing(context);
}

type Context = { question: Question; view: DnsView; aliases: number };

function record({ question, view }: Context): { name: string; ttl: number } {
  return { name: question.name, ttl: view.ttlSeconds };
}

function apex(context: Context): DnsAnswer {
  return found(context, context.question.type === 'SOA' ? [soa(context.view)] : []);
}

function answerService(context: Context, service: Service): DnsAnswer {
  if (context.question.type === 'SRV') return services(context, service, () => true);
  if (isHeadless(service)) {
    const ready = endpointsOf(service, context.view).filter(isServed);
    if (ready.length === 0) return found(context, []);
    return found(
      context,
      addressRecords(
        context,
        ready.map(({ address }) => address),
      ),
    );
  }
  return found(context, addressRecords(context, clusterAddresses(service)));
}

/** `_port._protocol.service…` */
function answerPort(context: Context, service: Service, rest: readonly string[]): DnsAnswer {
  const [port = '', protocol = ''] = rest.map((label) => label.slice(1));
  const matches = (name: string, of: string): boolean =>
    name.toLowerCase() === port && of.toLowerCase() === protocol;
  const result = services(context, service, matches);
  const empty = result.type === 'found' && result.answers.length === 0;
  return empty && context.question.type === 'SRV' ? missing(context) : result;
}

/** `hostname.service…`, where an endpoint without hostname is called after its address. */
function answerEndpoint(context: Context, service: Service, hostname: string): DnsAnswer {
  const named = endpointsOf(service, context.view).filter(
    (endpoint) => isServed(endpoint) && hostnameOf(endpoint) === hostname,
  );
  if (named.length === 0) return missing(context);
  return found(
    context,
    addressRecords(
      context,
      named.map(({ address }) => address),
    ),
  );
}

/** `a-b-c-d.namespace.pod…` is the address it spells, whoever has it. */
function answerPod(context: Context, labels: readonly string[]): DnsAnswer {
  const namespace = labels.at(-2);
  if (namespace === undefined) return found(context, []);
  if (!context.view.hasNamespace(namespace)) return missing(context);
  const [spelled, ...rest] = labels.slice(0, -2);
  if (spelled === undefined) return found(context, []);
  const address = parseAddress(spelled.replaceAll('-', '.'))
    ? spelled.replaceAll('-', '.')
    : spelled.replaceAll('-', ':');
  if (rest.length > 0 || !parseAddress(address)) return missing(context);
  return found(context, addressRecords(context, [address]));
}

function answerAlias(context: Context, service: Service): DnsAnswer {
  const { question, view, aliases } = context;
  const target = (service.spec?.externalName ?? '').replace(/\.$/, '');
  const alias: StringAnswer = { ...record(context), type: 'CNAME', data: target };
  const labels = labelsBelow(target.toLowerCase(), view.domain);
  if (question.type === 'CNAME') return found(context, [alias]);
  if (!labels) return { type: 'alias', answers: [alias], target };
  if (aliases >= MAX_ALIASES) return found(context, [alias]);
  const next = answerLabels({ ...question, name: target }, labels, view, aliases + 1);
  if (next.type === 'nxdomain') return found(context, [alias]);
  if (next.type === 'forward') return { type: 'alias', answers: [alias], target };
  return { ...next, answers: [alias, ...next.answers] };
}

/** SRV records of the ports that match, each with its target's addresses beside it. */
function services(
  context: Context,
  service: Service,
  matches: (port: string, protocol: string) => boolean,
): DnsAnswer {
  if (context.question.type !== 'SRV') return found(context, []);
  const { view } = context;
  const own = serviceName(service, view);
  const answers: SrvAnswer[] = [];
  const additionals: Answer[] = [];
  const add = (port: number, target: string, address: string): void => {
    const data = { port, target, priority: 0, weight: 100 };
    answers.push({ ...record(context), type: 'SRV', data });
    const same = (known: Answer): boolean =>
      known.name === target && 'data' in known && known.data === address;
    if (!additionals.some(same)) additionals.push(addressRecord(target, address, view));
  };
  if (!isHeadless(service)) {
    for (const port of service.spec?.ports ?? [])
      if (matches(port.name ?? '', port.protocol ?? 'TCP'))
        for (const address of clusterAddresses(service).slice(0, 1)) add(port.port, own, address);
  } else {
    for (const endpoint of endpointsOf(service, view).filter(isServed))
      for (const port of endpoint.slice.ports ?? [])
        if (port.port != null && matches(port.name ?? '', port.protocol ?? 'TCP'))
          add(port.port, `${hostnameOf(endpoint)}.${own}`, endpoint.address);
  }
  const result = found(context, answers);
  return result.type === 'found' ? { ...result, additionals } : result;
}

function answerReverse(question: Question, name: string, view: DnsView): DnsAnswer {
  const context: Context = { question, view, aliases: 0 };
  const address = reverseAddress(name);
  if (address === undefined) return { type: 'forward' };
  const service = view.serviceByAddress(address);
  const names = service
    ? [serviceName(service, view)]
    : view.slicesByAddress(address).flatMap((slice) => endpointNames(slice, address, view));
  if (names.length > 0) {
    if (question.type !== 'PTR') return found(context, []);
    const records = [...new Set(names)].map(
      (data): StringAnswer => ({ ...record(context), type: 'PTR', data }),
    );
    return found(context, records);
  }
  const own = view.ownNetworks.some((cidr) => cidrContains(cidr, address));
  return own ? missing(context) : { type: 'forward' };
}

function endpointNames(slice: EndpointSlice, address: string, view: DnsView): string[] {
  const namespace = slice.metadata.namespace ?? '';
  const service = view.service(
    namespace,
    slice.metadata.labels?.['kubernetes.io/service-name'] ?? '',
  );
  if (!service || !isHeadless(service)) return [];
  return (slice.endpoints ?? [])
    .filter(({ addresses }) => addresses[0] === address)
    .map((endpoint) => `${hostnameOf({ endpoint, address })}.${serviceName(service, view)}`);
}

/** The address that a name below in-addr.arpa or ip6.arpa spells backwards. */
export function reverseAddress(name: string): string | undefined {
  const v4 = /^((?:\d{1,3}\.){3}\d{1,3})\.in-addr\.arpa$/.exec(name)?.[1];
  if (v4 !== undefined) {
    const address = v4.split('.').reverse().join('.');
    return parseAddress(address) && address;
  }
  const digits = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name)?.[1];
  if (digits === undefined) return undefined;
  const value = BigInt(`0x${digits.split('.').reverse().join('')}`);
  return formatAddress({ family: 'IPv6', value });
}

type ServedEndpoint = { endpoint: Endpoint; address: string; slice: EndpointSlice };

function endpointsOf(service: Service, view: DnsView): ServedEndpoint[] {
  const { namespace = '', name = '' } = service.metadata;
  return view
    .slices(namespace, name)
    .flatMap((slice) =>
      (slice.endpoints ?? []).flatMap((endpoint) =>
        endpoint.addresses.map((address) => ({ endpoint, address, slice })),
      ),
    );
}

/** An absent condition counts as ready. A Service that publishes unready pods has them ready here. */
function isServed({ endpoint }: { endpoint: Endpoint }): boolean {
  return endpoint.conditions?.ready !== false;
}

function hostnameOf({ endpoint, address }: { endpoint: Endpoint; address: string }): string {
  return endpoint.hostname ?? address.replaceAll(/[.:]/g, '-');
}

function isHeadless(service: Service): boolean {
  return service.spec?.clusterIP === 'None';
}

function clusterAddresses(service: Service): string[] {
  const { clusterIPs, clusterIP } = service.spec ?? {};
  return (clusterIPs ?? [clusterIP ?? '']).filter((address) => address !== '');
}

function serviceName(service: Service, view: DnsView): string {
  return `${service.metadata.name}.${service.metadata.namespace}.svc.${view.domain}`;
}

/** Records of the type asked for, each address once. */
function addressRecords(context: Context, addresses: readonly string[]): Answer[] {
  const { question, view } = context;
  return [...new Set(addresses)]
    .map((address) => addressRecord(question.name, address, view))
    .filter(({ type }) => type === question.type);
}

function addressRecord(name: string, address: string, view: DnsView): StringAnswer {
  return { name, ttl: view.ttlSeconds, type: address.includes(':') ? 'AAAA' : 'A', data: address };
}

function found({ view }: Context, answers: Answer[]): DnsAnswer {
  const authorities = answers.length === 0 ? [soa(view)] : [];
  return { type: 'found', answers, additionals: [], authorities };
}

function missing({ view }: Context): DnsAnswer {
  return { type: 'nxdomain', authorities: [soa(view)] };
}

/** `minimum` bounds how long a resolver may believe that there is nothing. Source: RFC 2308. */
function soa(view: DnsView): SoaAnswer {
  return {
    type: 'SOA',
    name: view.domain,
    ttl: view.ttlSeconds,
    data: {
      mname: `ns.dns.${view.domain}`,
      rname: `hostmaster.${view.domain}`,
      serial: 1,
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      minimum: view.ttlSeconds,
    },
  };
}
