import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import type { Container, Pod, Probe } from '#api/types.ts';
import type { EventNote, EventRecorder } from '#client/events.ts';
import type { Handler, Outcome, RunHandler } from '#node-agent/containers/handlers.ts';
import type { ContainerRecord, ProbeVerdict } from '#node-agent/pods/pod-observation.ts';

/** Defaults of the API, for probes that come from elsewhere. */
const PERIOD_S = 10;
const TIMEOUT_S = 1;
const FAILURES = 3;

export type ProbeKind = 'startup' | 'liveness' | 'readiness';
export type ProbeResult = 'unknown' | 'success' | 'failure';
/** What a probe has come to, and how many equal outcomes in a row led there. */
export type ProbeState = { result: ProbeResult; last: boolean | undefined; inRow: number };

export const PROBE_START: ProbeState = { result: 'unknown', last: undefined, inRow: 0 };

/** One more outcome: the result changes when enough of them come in a row. */
export function probeStep(state: ProbeState, ok: boolean, probe: Probe): ProbeState {
  const inRow = state.last === ok ? state.inRow + 1 : 1;
  const needed = ok ? (probe.successThreshold ?? 1) : (probe.failureThreshold ?? FAILURES);
  const result = inRow >= needed ? (ok ? 'success' : 'failure') : state.result;
  return { result, last: ok, inRow };
}

/** Probes of one container, together. */
export function verdictOf(
  container: Container,
  states: Readonly<Record<ProbeKind, ProbeState>>,
): ProbeVerdict {
  const started = !container.startupProbe || states.startup.result === 'success';
  const ready = started && (!container.readinessProbe || states.readiness.result === 'success');
  const failed =
    states.startup.result === 'failure'
      ? 'startup'
      : started && states.liveness.result === 'failure'
        ? 'liveness'
        : undefined;
  return { started, ready, ...(failed ? { failed } : {}) };
}

/** How often a probe came to what: `successful`, `failed`, `unknown`. */
export type ProbeCount = {
  pod: Pod;
  container: string;
  kind: ProbeKind;
  outcomes: Record<string, number>;
};

type Watched = {
  counts: ProbeCount[];
  uid: string;
  verdict: ProbeVerdict;
  stop: AbortController;
};

export type ProbesOptions = {
  run: RunHandler;
  clock: Clock;
  log: Log;
  events: EventRecorder;
  onChange: (uid: string) => void;
};

/** Runs the probes of all running containers. */
export class Probes {
  readonly #options: ProbesOptions;
  readonly #watched = new Map<string, Watched>();

  constructor(options: ProbesOptions) {
    this.#options = options;
  }

  /** Verdicts by container id; a running container not seen before starts to be probed. */
  watch(
    pod: Pod,
    podIp: string,
    running: readonly { record: ContainerRecord; spec: Container }[],
  ): Map<string, ProbeVerdict> {
    const verdicts = new Map<string, ProbeVerdict>();
    for (const { record, spec } of running) {
      const known = this.#watched.get(record.id) ?? this.#begin(pod, podIp, record, spec);
      verdicts.set(record.id, known.verdict);
    }
    return verdicts;
  }

  /** Containers of this pod, but those in `keep`, are not probed any more. */
  prune(uid: string, keep: ReadonlySet<string>): void {
    for (const [id, watched] of this.#watched) {
      if (watched.uid !== uid || keep.has(id)) continue;
      watched.stop.abort();
      this.#watched.delete(id);
    }
  }

  /** Of all containers that are probed now. */
  counts(): ProbeCount[] {
    return [...this.#watched.values()].flatMap(({ counts }) => counts);
  }

  stopAll(): void {
    for (const { stop } of this.#watched.values()) stop.abort();
    this.#watched.clear();
  }

  #begin(pod: Pod, podIp: string, record: ContainerRecord, spec: Container): Watched {
    const states = { startup: PROBE_START, liveness: PROBE_START, readiness: PROBE_START };
    const watched: Watched = {
      counts: [],
      uid: pod.metadata.uid ?? '',
      verdict: verdictOf(spec, states),
      stop: new AbortController(),
    };
    this.#watched.set(record.id, watched);
    const { signal } = watched.stop;
    const run = (kind: ProbeKind, probe: Probe, until: () => boolean): Promise<void> => {
      const outcomes: Record<string, number> = {};
      watched.counts.push({ pod, container: spec.name, kind, outcomes });
      return this.#loop({ pod, podIp, record, spec, kind, probe, until, signal }, (outcome) => {
        const word = outcome.errored ? 'unknown' : outcome.ok ? 'successful' : 'failed';
        outcomes[word] = (outcomes[word] ?? 0) + 1;
        // What could not be found out counts neither way.
        if (outcome.errored) return;
        states[kind] = probeStep(states[kind], outcome.ok, probe);
        this.#conclude(watched, verdictOf(spec, states));
      });
    };
    const all = async (): Promise<void> => {
      if (spec.startupProbe)
        await run('startup', spec.startupProbe, () => states.startup.result !== 'unknown');
      const never = (): boolean => false;
      await Promise.all([
        spec.livenessProbe && states.startup.result !== 'failure'
          ? run('liveness', spec.livenessProbe, () => states.liveness.result === 'failure')
          : undefined,
        spec.readinessProbe ? run('readiness', spec.readinessProbe, never) : undefined,
      ]);
    };
    void all().catch((error: unknown) => {
      if (!signal.aborted) this.#options.log.error('probe ended', { error: errorText(error) });
    });
    return watched;
  }

  #conclude(watched: Watched, verdict: ProbeVerdict): void {
    const before = watched.verdict;
    watched.verdict = verdict;
    const same =
      before.ready === verdict.ready &&
      before.started === verdict.started &&
      before.failed === verdict.failed;
    if (!same) this.#options.onChange(watched.uid);
  }

  async #loop(task: ProbeTask, conclude: (outcome: Outcome) => void): Promise<void> {
    const { clock, run, events } = this.#options;
    const { pod, podIp, record, spec, kind, probe, until, signal } = task;
    const firstAtMs = record.startedAtMs + (probe.initialDelaySeconds ?? 0) * 1000;
    if (firstAtMs > clock.now()) await clock.sleep(firstAtMs - clock.now(), { signal });
    const periodMs = (probe.periodSeconds ?? PERIOD_S) * 1000;
    const timeoutMs = (probe.timeoutSeconds ?? TIMEOUT_S) * 1000;
    const target = { containerId: record.id, container: spec, podIp };
    for (;;) {
      const begunMs = clock.now();
      const outcome = await run(probe as Handler, target, { timeoutMs, signal });
      signal.throwIfAborted();
      const note = probeNote(kind, outcome);
      if (note) events.record(pod, { ...note, fieldPath: `spec.containers{${spec.name}}` });
      conclude(outcome);
      if (until()) return;
      await clock.sleep(Math.max(0, begunMs + periodMs - clock.now()), { signal });
    }
  }
}

/** What a user is told of an outcome; undefined for a plain success. */
export function probeNote(kind: ProbeKind, outcome: Outcome): EventNote | undefined {
  const { ok, output, errored, warning } = outcome;
  if (ok && !warning) return undefined;
  const name = `${kind[0]?.toUpperCase()}${kind.slice(1)} probe`;
  if (warning)
    return { type: 'Warning', reason: 'ProbeWarning', message: `${name} warning: ${output}` };
  const message = errored
    ? `${name} errored and resulted in unknown state: ${output}`
    : `${name} failed: ${output}`;
  return { type: 'Warning', reason: 'Unhealthy', message };
}

type ProbeTask = {
  pod: Pod;
  podIp: string;
  record: ContainerRecord;
  spec: Container;
  kind: ProbeKind;
  probe: Probe;
  /** Enough is known. */
  until: () => boolean;
  signal: AbortSignal;
};
