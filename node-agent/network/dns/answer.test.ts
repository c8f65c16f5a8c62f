import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Question, RecordType } from 'dns-packet';
import type { EndpointSlice, Service } from '#api/types.ts';
import { parseCidr } from '../addresses.ts';
import { answer, type DnsView } from './answer.ts';

const web: Service = {
  metadata: { name: 'web', namespace: 'shop' },
  spec: {
    clusterIP: '10.96.0.20',
    clusterIPs: ['10.96.0.20', 'fd00::20'],
    ports: [
      { name: 'http', port: 80, protocol: 'TCP' },
      { name: 'dns', port: 53, protocol: 'UDP' },
    ],
  },
};
const db: Service = {
  metadata: { name: 'db', namespace: 'shop' },
  spec: { clusterIP: 'None', ports: [{ name: 'sql', port: 5432, protocol: 'TCP' }] },
};
const dbSlice: EndpointSlice = {
  metadata: {
    name: 'db-1',
    namespace: 'shop',
    labels: { 'kubernetes.io/service-name': 'db' },
  },
  addressType: 'IPv4',
  ports: [{ name: 'sql', port: 5432, protocol: 'TCP' }],
  endpoints: [
    { addresses: ['10.244.0.5'], hostname: 'db-0', conditions: { ready: true } },
    { addresses: ['10.244.0.6'], conditions: { ready: true } },
    { addresses: ['10.244.0.7'], conditions: { ready: false } },
  ],
};
const alias = (name: string, externalName: string): Service => ({
  metadata: { name, namespace: 'shop' },
  spec: { type: 'ExternalName', externalName },
});
const empty: Service = {
  metadata: { name: 'empty', namespace: 'shop' },
  spec: { clusterIP: 'None' },
};
const all = [
  web,
  db,
  empty,
  alias('out', 'example.org'),
  alias('in', 'web.shop.svc.cluster.local.'),
  alias('loop', 'loop.shop.svc.cluster.local'),
  alias('lost', 'none.shop.svc.cluster.local'),
];

const view: DnsView = {
  isComplete: () => true,
  domain: 'cluster.local',
  ttlSeconds: 5,
  service: (ns, name) =>
    all.find(({ metadata }) => metadata.namespace === ns && metadata.name === name),
  slices: (ns, name) => (ns === 'shop' && name === 'db' ? [dbSlice] : []),
  hasNamespace: (ns) => ns === 'shop',
  serviceByAddress: (address) => (web.spec?.clusterIPs?.includes(address) ? web : undefined),
  slicesByAddress: (address) =>
    dbSlice.endpoints?.some(({ addresses }) => addresses.includes(address)) ? [dbSlice] : [],
  ownNetworks: [parseCidr('10.244.0.0/16'), parseCidr('10.96.0.0/16')],
};

/** A line per answer, or what else the result is. */
function ask(type: RecordType, name: string): string[] | string {
  const question: Question = { type, name };
  const result = answer(question, view);
  if (result.type === 'forward' || result.type === 'nxdomain') return result.type;
  if (result.type === 'alias') return `alias ${result.target}`;
  if (result.answers.length === 0) {
    assert.equal(result.authorities[0]?.type, 'SOA', 'no data needs an SOA record');
    return 'nodata';
  }
  return result.answers.map((record) => {
    const data = 'data' in record ? record.data : '';
    if (record.type !== 'SRV') return `${record.name} ${record.type} ${String(data)}`;
    return `${record.data.port} ${record.data.target}`;
  });
}

const cases: [RecordType, string, string[] | string][] = [
  ['A', 'web.shop.svc.cluster.local', ['web.shop.svc.cluster.local A 10.96.0.20']],
  ['A', 'WEB.Shop.svc.cluster.LOCAL', ['WEB.Shop.svc.cluster.LOCAL A 10.96.0.20']],
  ['AAAA', 'web.shop.svc.cluster.local', ['web.shop.svc.cluster.local AAAA fd00::20']],
  ['TXT', 'web.shop.svc.cluster.local', 'nodata'],
  ['A', 'none.shop.svc.cluster.local', 'nxdomain'],
  ['A', 'web.other.svc.cluster.local', 'nxdomain'],
  ['A', 'shop.svc.cluster.local', 'nodata'],
  ['A', 'other.svc.cluster.local', 'nxdomain'],
  ['A', 'svc.cluster.local', 'nodata'],
  ['A', 'cluster.local', 'nodata'],
  ['A', 'example.org', 'forward'],
  ['A', 'notcluster.local', 'forward'],
  ['A', 'example.org.shop.svc.cluster.local', 'nxdomain'],
  [
    'A',
    'db.shop.svc.cluster.local',
    ['db.shop.svc.cluster.local A 10.244.0.5', 'db.shop.svc.cluster.local A 10.244.0.6'],
  ],
  ['AAAA', 'db.shop.svc.cluster.local', 'nodata'],
  ['A', 'empty.shop.svc.cluster.local', 'nodata'],
  ['A', 'db-0.db.shop.svc.cluster.local', ['db-0.db.shop.svc.cluster.local A 10.244.0.5']],
  [
    'A',
    '10-244-0-6.db.shop.svc.cluster.local',
    ['10-244-0-6.db.shop.svc.cluster.local A 10.244.0.6'],
  ],
  ['A', '10-244-0-7.db.shop.svc.cluster.local', 'nxdomain'],
  ['SRV', '_http._tcp.web.shop.svc.cluster.local', ['80 web.shop.svc.cluster.local']],
  ['SRV', '_http._udp.web.shop.svc.cluster.local', 'nxdomain'],
  [
    'SRV',
    'web.shop.svc.cluster.local',
    ['80 web.shop.svc.cluster.local', '53 web.shop.svc.cluster.local'],
  ],
  [
    'SRV',
    '_sql._tcp.db.shop.svc.cluster.local',
    ['5432 db-0.db.shop.svc.cluster.local', '5432 10-244-0-6.db.shop.svc.cluster.local'],
  ],
  ['A', '10-244-0-9.shop.pod.cluster.local', ['10-244-0-9.shop.pod.cluster.local A 10.244.0.9']],
  ['A', '10-244-0-9.other.pod.cluster.local', 'nxdomain'],
  ['A', '10-244-0-999.shop.pod.cluster.local', 'nxdomain'],
  ['AAAA', 'fd00--9.shop.pod.cluster.local', ['fd00--9.shop.pod.cluster.local AAAA fd00::9']],
  ['A', 'out.shop.svc.cluster.local', 'alias example.org'],
  ['CNAME', 'out.shop.svc.cluster.local', ['out.shop.svc.cluster.local CNAME example.org']],
  [
    'A',
    'in.shop.svc.cluster.local',
    [
      'in.shop.svc.cluster.local CNAME web.shop.svc.cluster.local',
      'web.shop.svc.cluster.local A 10.96.0.20',
    ],
  ],
  [
    'A',
    'lost.shop.svc.cluster.local',
    ['lost.shop.svc.cluster.local CNAME none.shop.svc.cluster.local'],
  ],
  ['PTR', '20.0.96.10.in-addr.arpa', ['20.0.96.10.in-addr.arpa PTR web.shop.svc.cluster.local']],
  [
    'PTR',
    '5.0.244.10.in-addr.arpa',
    ['5.0.244.10.in-addr.arpa PTR db-0.db.shop.svc.cluster.local'],
  ],
  ['PTR', '99.0.244.10.in-addr.arpa', 'nxdomain'],
  ['PTR', '1.1.1.1.in-addr.arpa', 'forward'],
  [
    'PTR',
    `0.2.${'0.'.repeat(26)}0.0.d.f.ip6.arpa`,
    [`0.2.${'0.'.repeat(26)}0.0.d.f.ip6.arpa PTR web.shop.svc.cluster.local`],
  ],
  ['TXT', 'dns-version.cluster.local', ['dns-version.cluster.local TXT 1.1.0']],
];

for (const [type, name, expected] of cases)
  test(`${type} ${name}`, () => assert.deepEqual(ask(type, name), expected));

test('an alias of itself ends', () => {
  const lines = ask('A', 'loop.shop.svc.cluster.local');
  assert.ok(Array.isArray(lines) && lines.length < 12);
});

test("an SRV record's targets come with their addresses", () => {
  const result = answer({ type: 'SRV', name: '_sql._tcp.db.shop.svc.cluster.local' }, view);
  assert.equal(result.type, 'found');
  if (result.type !== 'found') return;
  assert.deepEqual(
    result.additionals.map((record) => ('data' in record ? record.data : '')),
    ['10.244.0.5', '10.244.0.6'],
  );
});
