import { errorText } from '#base/log.ts';
import type { Container } from '#api/types.ts';
import { identityOf } from '#node-agent/pods/pod-files.ts';
import { podContainers } from '#node-agent/pods/pod-observation.ts';
import type { KillReason, PodStep } from '#node-agent/pods/pod-plan.ts';
import { downwardOf, type StepContext, tell } from '#node-agent/pods/pod-steps.ts';
import { linuxSignal } from '#node-agent/containers/stop-signal.ts';

/** A kill that failed is forgotten after this, so that the plan orders it again. */
const RETRY_MS = 1_000;

/** How often a container that got its signal is looked at; its end is told by an event. */
const LOOK_MS = 20;

/** Source: kubelet, least grace after preStop. */
const AFTER_HOOK_MS = 2_000;

type KillStep = Extract<PodStep, { step: 'kill-container' }>;
type Running = { deadlineMs: number; hookBegun: boolean; interrupt: AbortController };

/**
 * Ends containers in the background: preStop, then SIGTERM, then SIGKILL at the deadline. An earlier
 * deadline overtakes: it interrupts the hook and kills sooner.
 */
export class ContainerKiller {
  readonly #running = new Map<string, Running>();

  /** By container id, for the plan. */
  get deadlines(): ReadonlyMap<string, { deadlineMs: number }> {
    return this.#running;
  }

  begin(ctx: StepContext, step: KillStep): void {
    const { record, deadlineMs, reason } = step;
    const before = this.#running.get(record.id);
    before?.interrupt.abort(new Error('killed sooner'));
    const mine: Running = {
      deadlineMs,
      hookBegun: before?.hookBegun ?? false,
      interrupt: new AbortController(),
    };
    this.#running.set(record.id, mine);
    const spec = podContainers(ctx.pod).find((c) => c.spec.name === record.name)?.spec;
    if (!before) announce(ctx, record.name, reason);
    void this.#kill(ctx, step, mine, spec)
      .catch(async (error: unknown) => {
        if (this.#running.get(record.id) !== mine) return; // overtaken
        const message = `error killing pod: failed to stop container ${record.name}: ${errorText(error)}`;
        tell(ctx, { type: 'Warning', reason: 'FailedKillPod', message });
        await ctx.services.clock.sleep(RETRY_MS, { signal: ctx.signal }).catch(() => undefined);
      })
      .finally(() => {
        if (this.#running.get(record.id) === mine) this.#running.delete(record.id);
        ctx.wake();
      });
  }

  async #kill(
    ctx: StepContext,
    { record, deadlineMs, reason }: KillStep,
    mine: Running,
    spec: Container | undefined,
  ): Promise<void> {
    const { clock, runtime, runtimes } = ctx.services;
    const hook = spec?.lifecycle?.preStop;
    const hooked = reason !== 'restart-all' && !mine.hookBegun && deadlineMs > clock.now();
    if (spec && hook && hooked) {
      mine.hookBegun = true;
      await runPreStop(ctx, spec, record.id, mine);
    }
    // A hook that used up the time shall not cost the container its SIGTERM.
    const leastMs = mine.hookBegun && !mine.interrupt.signal.aborted ? AFTER_HOOK_MS : 0;
    const graceMs = Math.max(leastMs, mine.deadlineMs - clock.now());
    // The runtime counts whole seconds; a fraction must not turn into a kill at once.
    const seconds = Math.ceil(graceMs / 1000);
    const own = spec?.lifecycle?.stopSignal;
    const sent = own && seconds > 0 && (await sendOwnSignal(ctx, record.id, own));
    const left = sent ? await endWithin(ctx, record.id, graceMs, mine.interrupt.signal) : seconds;
    await runtime.stopContainer(record.id, left, { signal: mine.interrupt.signal });
    await runtimes.refreshContainer(record.id, identityOf(ctx.pod));
  }
}

/** True when the container got the signal it asked for from us, because its runtime would not. */
async function sendOwnSignal(ctx: StepContext, id: string, name: string): Promise<boolean> {
  const { runtime, features, log } = ctx.services;
  const signal = linuxSignal(name);
  if (features(ctx.pod).stopSignal || !runtime.signalContainer || signal === undefined)
    return false;
  try {
    await runtime.signalContainer(id, signal);
    return true;
  } catch (error) {
    log.warn('could not send the stop signal of a container', { name, error: errorText(error) });
    return false;
  }
}

/** Waits for a container's end; what is left to do then takes no more time: 0 seconds. */
async function endWithin(
  { services }: StepContext,
  id: string,
  graceMs: number,
  signal: AbortSignal,
): Promise<number> {
  const { clock, runtimes } = services;
  const untilMs = clock.now() + graceMs;
  while (runtimes.container(id)?.record.state === 'running' && clock.now() < untilMs)
    await clock.sleep(LOOK_MS, { signal });
  return 0;
}

async function runPreStop(
  ctx: StepContext,
  container: Container,
  containerId: string,
  { deadlineMs, interrupt }: Running,
): Promise<void> {
  const { clock, handlers } = ctx.services;
  const hook = container.lifecycle?.preStop;
  if (!hook) return;
  const timeoutMs = deadlineMs - clock.now();
  const target = { containerId, container, podIp: downwardOf(ctx).podIps[0] ?? '' };
  const limit = AbortSignal.any([interrupt.signal, AbortSignal.timeout(timeoutMs)]);
  const outcome = await handlers(hook, target, { timeoutMs, signal: limit }).catch(
    (error: unknown) => ({ ok: false, output: errorText(error) }),
  );
  if (outcome.ok || interrupt.signal.aborted) return;
  const { output } = outcome;
  ctx.services.log.info('a preStop hook failed', { container: container.name, output });
  const message = 'PreStopHook failed';
  tell(ctx, { type: 'Warning', reason: 'FailedPreStopHook', message }, container.name);
}

function announce(ctx: StepContext, name: string, reason: KillReason): void {
  const messages: Record<KillReason, string> = {
    stopping: `Stopping container ${name}`,
    liveness: `Container ${name} failed liveness probe, will be restarted`,
    startup: `Container ${name} failed startup probe, will be restarted`,
    changed: `Container ${name} definition changed, will be restarted`,
    postStart: 'FailedPostStartHook',
    'restart-all': `Container ${name} will be restarted with all containers of the pod`,
    resized: `Container ${name} resize requires restart`,
    'sandbox-gone': `Pod sandbox changed, container ${name} will be killed and re-created`,
  };
  tell(ctx, { type: 'Normal', reason: 'Killing', message: messages[reason] }, name);
}
