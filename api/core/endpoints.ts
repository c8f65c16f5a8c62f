import { coreRules } from '#api/core/core-rules.ts';
import { defineKind } from '#api/kind.ts';
import { NONE, text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { hostPort, shortList } from '#api/meta/more-list.ts';
import type { Endpoints } from '#api/types.ts';

/** Source: core/v1 Endpoints. */
export const endpoints = defineKind<Endpoints>({
  group: '',
  version: 'v1',
  kind: 'Endpoints',
  plural: 'endpoints',
  singular: 'endpoints',
  shortNames: ['ep'],
  scope: 'Namespaced',
  schema: 'V1Endpoints',
  fieldRules: [coreRules, metaRules],
  generation: 'none',
  columns: [text('Endpoints', addresses, 'V1Endpoints.subsets')],

  defaults(object) {
    for (const { ports } of object.subsets ?? []) {
      for (const port of ports ?? []) if (!port.protocol) port.protocol = 'TCP';
    }
  },
});

function addresses(object: Endpoints): string {
  const all = (object.subsets ?? []).flatMap((subset) => {
    const ips = (subset.addresses ?? []).map(({ ip }) => ip);
    const { ports } = subset;
    if (!ports?.length) return ips;
    return ports.flatMap(({ port }) => ips.map((ip) => hostPort(ip, port)));
  });
  return shortList(all, NONE);
}
