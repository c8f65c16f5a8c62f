import type { Verb } from '#cli/verb.ts';
import { UserError } from '#cli/verb.ts';
import { type ClientFlags, clientFlags, withClient } from '#cli/context.ts';
import { discover, parseTargets } from '#cli/resources.ts';

type Flags = ClientFlags & { replicas: string };

export const scale: Verb = {
  name: 'scale',
  summary: 'set how many replicas a workload has',
  configure(command) {
    clientFlags(command)
      .argument('<target...>', 'deployment/NAME or deployment NAME')
      .requiredOption('--replicas <count>', 'how many')
      .action((words: string[], flags: Flags) =>
        withClient(flags, async ({ api, namespace }) => {
          const replicas = Number(flags.replicas);
          if (!Number.isInteger(replicas) || replicas < 0) {
            throw new UserError(
              `--replicas takes a whole number of 0 or more, not "${flags.replicas}"`,
            );
          }
          for (const { resource, names } of parseTargets(await discover(api), words)) {
            for (const name of names) {
              await api.patch(
                resource,
                { namespace, name },
                { type: 'merge', body: { spec: { replicas } } },
                { subresource: 'scale' },
              );
              console.log(`${resource.singular}/${name} scaled to ${replicas}`);
            }
          }
        }),
      );
  },
};
