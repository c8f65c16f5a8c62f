import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Kind } from '#api/kind.ts';
import { asCreated, createErrors, updateErrors } from '#api/kind-probe.ts';
import { deviceClass } from '#api/resource/device-class.ts';
import { resourceClaimTemplate } from '#api/resource/resource-claim-template.ts';
import { resourceClaim } from '#api/resource/resource-claim.ts';
import { resourceSlice } from '#api/resource/resource-slice.ts';
import type { ResourceClaim } from '#api/resource/resource-types.ts';
import type { KubeObject } from '#api/types.ts';

const metadata = { name: 'x' };
const claim = (request: object, more: object = {}): object => ({
  metadata,
  spec: { devices: { requests: [{ name: 'gpu', ...request }], ...more } },
});
const exactly = (demand: object = {}): object => ({
  exactly: { deviceClassName: 'gpu.example.com', ...demand },
});
const slice = (spec: object): object => ({
  metadata,
  spec: {
    driver: 'gpu.example.com',
    nodeName: 'n',
    pool: { name: 'n', resourceSliceCount: 1 },
    ...spec,
  },
});
const selector = (expression: string): object => ({ selectors: [{ cel: { expression } }] });
const opaque = { driver: 'gpu.example.com', parameters: { a: 1 } };
const devices = (...list: object[]): object => slice({ devices: list });

const table: readonly [about: string, kind: Kind, input: object, errors: readonly RegExp[]][] = [
  ['an empty claim', resourceClaim, { metadata, spec: {} }, []],
  ['one device', resourceClaim, claim(exactly()), []],
  ['neither way', resourceClaim, claim({}), [/requests\[0\]: Required value: exactly one of/]],
  [
    'both ways',
    resourceClaim,
    claim({ ...exactly(), firstAvailable: [{ name: 'a', deviceClassName: 'b' }] }),
    [/requests\[0\]: Invalid value: null: exactly one of .* but multiple/],
  ],
  ['no class', resourceClaim, claim({ exactly: {} }), [/exactly\.deviceClassName: Required value/]],
  [
    'all, but some',
    resourceClaim,
    claim(exactly({ allocationMode: 'All', count: 2 })),
    [/exactly\.count: Invalid value: 2: must not be specified when allocationMode is 'All'/],
  ],
  [
    'another mode',
    resourceClaim,
    claim(exactly({ allocationMode: 'Most' })),
    [/allocationMode: Unsupported value: "Most": supported values: "All", "ExactCount"/],
  ],
  [
    'two of a name',
    resourceClaim,
    {
      metadata,
      spec: { devices: { requests: ['a', 'a'].map((name) => ({ name, ...exactly() })) } },
    },
    [/requests\[1\]\.name: Duplicate value: "a"/],
  ],
  [
    'a constraint on a stranger',
    resourceClaim,
    claim(exactly(), { constraints: [{ requests: ['cpu'], matchAttribute: 'model' }] }),
    [/constraints\[0\]\.requests\[0\]: Invalid value: "cpu": must be the name/, /include a domain/],
  ],
  [
    'configuration of an alternative',
    resourceClaim,
    claim(
      { firstAvailable: [{ name: 'big', deviceClassName: 'b' }] },
      { config: [{ requests: ['gpu/big'], opaque }, {}] },
    ),
    [/config\[1\]\.opaque: Required value/],
  ],
  ['any device', deviceClass, { metadata, spec: selector('device.driver == "a"') }, []],
  [
    'by attribute and capacity',
    deviceClass,
    {
      metadata,
      spec: selector(
        'device.attributes["a.b"].size > 3 && device.capacity["a.b"].memory.isGreaterThan(quantity("1Gi"))',
      ),
    },
    [],
  ],
  [
    'what is no expression',
    deviceClass,
    { metadata, spec: selector('device.driver ==') },
    [/selectors\[0\]\.cel\.expression: Invalid value: "device\.driver ==": compilation failed/],
  ],
  [
    'what is no answer',
    deviceClass,
    { metadata, spec: selector('device.driver') },
    [/must evaluate to bool or the unknown type, not string/],
  ],
  [
    'a native resource',
    deviceClass,
    { metadata, spec: { extendedResourceName: 'cpu' } },
    [/must be a valid extended resource name/],
  ],
  [
    'a template of it',
    resourceClaimTemplate,
    { metadata, spec: { metadata: { labels: { 'a b': '' } }, spec: claimSpecOf(claim({})) } },
    [/^spec\.metadata\.labels/, /^spec\.spec\.devices\.requests\[0\]: Required/],
  ],
  ['a slice', resourceSlice, devices({ name: 'd', attributes: { v: { version: '1.2.3' } } }), []],
  [
    'two places',
    resourceSlice,
    slice({ allNodes: true }),
    [/^spec: Invalid value: null: exactly one of .* multiple/],
  ],
  ['no place', resourceSlice, slice({ nodeName: undefined }), [/^spec: Required value: exactly/]],
  [
    'attributes with two values, or bad ones',
    resourceSlice,
    devices({
      name: 'd',
      attributes: { a: { int: 1, bool: true }, b: { version: '1' }, 'c/': {} },
    }),
    [/\[a\]: Invalid/, /\[b\]\.version: .*semver/, /\[c\/\]: Required/, /\[c\/\]: Required/],
  ],
  [
    'a device that says itself where it is',
    resourceSlice,
    devices({ name: 'd', allNodes: true }, { name: 'd' }),
    [/perDeviceNodeSelection/, /devices\[1\]\.name: Duplicate/],
  ],
  [
    'a bad taint',
    resourceSlice,
    devices({ name: 'd', taints: [{ key: 'k', effect: 'Maybe' }] }),
    [/taints\[0\]\.effect: Unsupported value: "Maybe"/],
  ],
  [
    'counters',
    resourceSlice,
    slice({ sharedCounters: [{ name: 'c', counters: {} }] }),
    [/sharedCounters\[0\]\.counters: Required value/],
  ],
];

function claimSpecOf(object: object): object {
  return (object as { spec: object }).spec;
}

test('what creates are refused for', () => {
  for (const [about, kind, input, expected] of table) {
    const found = createErrors(kind, input);
    assert.equal(found.length, expected.length, `${about}: ${found.join('; ')}`);
    for (const [i, pattern] of expected.entries()) assert.match(found[i] ?? '', pattern, about);
  }
});

test('a claim asks for one device unless it says how many, and starts without a status', () => {
  const { spec, status } = asCreated<ResourceClaim & KubeObject>(resourceClaim, {
    ...claim(exactly()),
    status: { allocation: {} },
  });
  assert.deepEqual(spec.devices?.requests?.[0]?.exactly, {
    deviceClassName: 'gpu.example.com',
    allocationMode: 'ExactCount',
    count: 1,
  });
  assert.deepEqual(status, {});
});

test('what is claimed does not change', () => {
  const errors = updateErrors(resourceClaim, claim(exactly()), claim(exactly({ count: 2 })));
  assert.match(errors.join(), /^spec: Invalid value: .*: field is immutable$/);
});

test('devices are reserved once they are allocated', () => {
  const { status } = resourceClaim.subresources ?? {};
  assert.equal(status?.type, 'status');
  if (status?.type !== 'status') return;
  const of = (value: object): KubeObject => ({ metadata, status: value });
  const check = (now: object, before: object = {}): string[] =>
    (status.validateUpdate?.(of(now), of(before)) ?? []).map((e) => `${e.path}: ${e.message}`);
  const reservedFor = [{ resource: 'pods', name: 'p', uid: '1' }];
  assert.match(check({ reservedFor }).join(), /^status\.reservedFor: Forbidden/);
  assert.deepEqual(check({ allocation: { devices: {} }, reservedFor }), []);
  const other = {
    allocation: { devices: { results: [] }, nodeSelector: { nodeSelectorTerms: [] } },
  };
  assert.match(check(other, { allocation: { devices: {} } }).join(), /field is immutable/);
});
