import { errorText } from '#base/log.ts';
import type { BootstrapContext } from '#apiserver/bootstrap-context.ts';
import { registerLocal } from '#apiserver/aggregation/availability.ts';
import { ensureFlowControl } from '#apiserver/bootstrap-flowcontrol.ts';
import { createBootstrapObjects } from '#apiserver/bootstrap-objects.ts';
import { reconcileRbac } from '#apiserver/bootstrap-rbac.ts';
import type { ServerPlace } from '#apiserver/bootstrap-service.ts';
import { reconcileServerPlace } from '#apiserver/bootstrap-service.ts';

/** Besides the server's objects: where it is. */
export type BootstrapSettings = BootstrapContext & { place: ServerPlace };
export type BootstrapStep = { name: string; run: (context: BootstrapSettings) => Promise<void> };

/** What a cluster is born with, in order. Every step is safe to repeat at each start. */
export const bootstrapSteps: readonly BootstrapStep[] = [
  { name: 'objects', run: createBootstrapObjects },
  { name: 'rbac', run: reconcileRbac },
  { name: 'flow control', run: ensureFlowControl },
  { name: 'api services', run: registerLocal },
  { name: 'services', run: (context) => reconcileServerPlace(context, context.place) },
];

/** Runs all steps; the first that fails ends the start, named. */
export async function bootstrap(
  context: BootstrapSettings,
  steps: readonly BootstrapStep[] = bootstrapSteps,
): Promise<void> {
  for (const { name, run } of steps) {
    context.signal.throwIfAborted();
    try {
      await run(context);
    } catch (error) {
      throw new Error(`bootstrap step ${name} failed: ${errorText(error)}`, { cause: error });
    }
  }
}
