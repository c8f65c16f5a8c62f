import { type Plugin, SKIP } from '#scheduler/plugin.ts';
import type { HostPort } from '#scheduler/snapshot.ts';

/** Two pods of a node cannot have the same host port. */
export const nodePorts: Plugin = {
  name: 'NodePorts',
  preFilter: ({ pod }) => (pod.hostPorts.length === 0 ? SKIP : null),
  filter({ pod }, node) {
    for (const other of node.pods.values()) {
      const clash = pod.hostPorts.find((port) =>
        other.hostPorts.some((used) => clashes(port, used)),
      );
      if (clash) {
        return {
          reason: "node(s) didn't have free ports for the requested pod ports",
          help: `host port ${clash.port}/${clash.protocol} is taken by ${other.key} on ${node.name}`,
        };
      }
    }
    return null;
  },
};

const ANY = '0.0.0.0';

function clashes(a: HostPort, b: HostPort): boolean {
  if (a.port !== b.port || a.protocol !== b.protocol) return false;
  return a.ip === b.ip || a.ip === ANY || b.ip === ANY;
}
