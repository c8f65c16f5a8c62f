import { Command, CommanderError } from 'commander';
import { StatusError } from '#api/status.ts';
import { TransportError } from '#client/transport.ts';
import { UserError } from '#cli/verb.ts';

/** Components that run alone in the foreground: `gantry apiserver --secure-port 6443 ...`. */
const components: Record<string, () => Promise<{ main(args: string[]): Promise<void> }>> = {
  apiserver: () => import('#apiserver/main.ts'),
  'controller-manager': () => import('#controllers/main.ts'),
  scheduler: () => import('#scheduler/main.ts'),
  'node-agent': () => import('#node-agent/main.ts'),
  'microvm-runtime': () => import('#node-agent/runtime/microvm/main.ts'),
};

async function main(args: string[]): Promise<void> {
  const [word = '', ...rest] = args;
  const component = components[word];
  if (component) {
    await (await component()).main(rest);
    return;
  }
  // A component lives long and needs none of them.
  const { verbs } = await import('#cli/verbs.ts');
  const program = new Command('gantry')
    .description(
      'A Kubernetes-compatible orchestrator: containers or microVMs from the same image.',
    )
    .addHelpText(
      'after',
      `\nComponents, each alone in the foreground:\n  ${Object.keys(components).join(', ')}\n`,
    )
    .showSuggestionAfterError()
    .exitOverride();
  for (const verb of verbs) verb.configure(program.command(verb.name).description(verb.summary));
  await program.parseAsync(args, { from: 'user' });
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode;
  } else if (error instanceof UserError) {
    console.error(`error: ${error.message}`);
    process.exitCode = 1;
  } else if (error instanceof StatusError) {
    console.error(`error from the server (${error.reason}): ${error.message}`);
    process.exitCode = 1;
  } else if (error instanceof TransportError) {
    console.error(`error: the API server cannot be reached: ${error.message}`);
    process.exitCode = 1;
  } else {
    throw error;
  }
}
