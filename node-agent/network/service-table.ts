/** What of a node and its cluster the rules depend on; fixed while the agent runs. */
export type NodeFacts = {
  nodeName: string;
  /** From the node's topology label; '' when it has none. */
  zone: string;
  family: 'IPv4' | 'IPv6';
  /** Addresses of all pods of the cluster. */
  clusterCidr: string;
  /** Addresses of this node's pods. */
  podCidr: string;
  serviceCidr: string;
  /** The interface that this node's pods are attached to. */
  bridge: string;
  /** Where this node answers DNS for the cluster; used while the DNS Service has no endpoints. */
  dns?: { clusterIp: string; address: string; port: number };
};

/** nft's words for a family. */
export function familyWords(family: NodeFacts['family']): {
  ip: 'ip' | 'ip6';
  address: string;
  loopback: string;
} {
  return family === 'IPv4'
    ? { ip: 'ip', address: 'ipv4_addr', loopback: '127.0.0.0/8' }
    : { ip: 'ip6', address: 'ipv6_addr', loopback: '::1' };
}

/** The packet mark that asks for masquerading; the bit that Kubernetes' own proxy uses. */
export const MASQUERADE_MARK = '0x4000';

/** Sets the mark and keeps the other bits. */
export const MARK = `meta mark set meta mark or ${MASQUERADE_MARK}`;

/**
 * The fixed part of the table: base chains, and empty maps that Services' and policies' rules fill.
 *
 * A new connection's first packet runs through `services` before it is routed (prerouting for
 * pods and the outside, output for the node itself): by destination address or, for the node's own
 * addresses, by port, it goes to the chain of its Service port, which rewrites the destination.
 * What no chain rewrote although it is for a Service is answered in the filter hooks, TCP by a
 * reset: an ICMP error that arrives while connect() still holds its socket is not acted on.
 *
 * Network policies are judged where packets are forwarded, after that rewriting: each direction in a
 * base chain of its own, because accepting ends only the chain that accepts. What the node itself
 * sends or receives is not forwarded, so probes and DNS always pass.
 */
export function tableSkeleton(node: NodeFacts): string {
  const { ip, address, loopback } = familyWords(node.family);
  const ipKey = `${address} . inet_proto . inet_service`;
  const portKey = 'inet_proto . inet_service';
  const localPorts = `fib daddr type local`;
  const toService = `${ip} daddr . meta l4proto . th dport`;
  const toPort = 'meta l4proto . th dport';
  return `
  map service-ips { type ${ipKey} : verdict; }
  map service-nodeports { type ${portKey} : verdict; }
  map no-endpoint-ips { type ${ipKey} : verdict; }
  map no-endpoint-nodeports { type ${portKey} : verdict; }
  map host-ports { type ${portKey} : ${address} . inet_service; }
  map host-ip-ports { type ${ipKey} : ${address} . inet_service; }
  set hairpin { type ${address} . ${address}; }
  map isolated-senders { type ${address} : verdict; }
  map isolated-receivers { type ${address} : verdict; }
  set selves { type ${address} . ${address}; }

  chain refuse {
    meta l4proto tcp reject with tcp reset;
    reject;
  }
  chain discard { drop; }
  chain services {
    ${toService} vmap @service-ips;
    ${localPorts} ${toPort} vmap @service-nodeports;
    ${localPorts} dnat ${ip} addr . port to ${toService} map @host-ip-ports;
    ${localPorts} dnat ${ip} addr . port to ${toPort} map @host-ports;
  }
  chain unanswered {
    ${toService} vmap @no-endpoint-ips;
    ${localPorts} ${toPort} vmap @no-endpoint-nodeports;
    ${ip} daddr ${node.serviceCidr} goto refuse;
  }
  chain guard-loopback {
    type filter hook prerouting priority raw; policy accept;
    iifname "${node.bridge}" ${ip} daddr ${loopback} drop;
  }
  chain nat-prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    jump services;
  }
  chain nat-output {
    type nat hook output priority -100; policy accept;
    jump services;
  }
  chain nat-postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    meta mark and ${MASQUERADE_MARK} == ${MASQUERADE_MARK} masquerade fully-random;
    ct status dnat ${ip} saddr . ${ip} daddr @hairpin masquerade fully-random;
    ct status dnat ${ip} saddr ${loopback} oifname != "lo" masquerade fully-random;
    ${ip} saddr ${node.podCidr} ${ip} daddr != ${node.clusterCidr} oifname != "${node.bridge}" masquerade fully-random;
  }
  chain filter-input {
    type filter hook input priority filter; policy accept;
    ct state new jump unanswered;
  }
  chain filter-forward {
    type filter hook forward priority filter; policy accept;
    ct state new jump unanswered;
  }
  chain policy-egress {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept;
    ${ip} saddr . ${ip} daddr @selves accept;
    ${ip} saddr vmap @isolated-senders;
  }
  chain policy-ingress {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept;
    ${ip} saddr . ${ip} daddr @selves accept;
    ${ip} daddr vmap @isolated-receivers;
  }
  chain filter-output {
    type filter hook output priority filter; policy accept;
    ${silentDns(node)}ct state new jump unanswered;
  }`;
}

/** In an ICMP error, where the port stands that the refused datagram was for: bits, from its start. */
const REFUSED_PORT = '@th,240,16';

/**
 * While the agent restarts, nobody answers DNS. Told so, resolvers give up at once; told nothing, they
 * ask again after some seconds, when the agent is back: names resolve late instead of not at all.
 */
function silentDns({ dns, family }: NodeFacts): string {
  if (!dns || family !== 'IPv4') return '';
  const refused = 'icmp type destination-unreachable icmp code port-unreachable';
  return `ip saddr ${dns.address} ${refused} ${REFUSED_PORT} ${dns.port} drop;\n    `;
}
