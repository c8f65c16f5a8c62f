import type { Kind } from '#api/kind.ts';
import type { KubeObject } from '#api/types.ts';
import type { AdmissionRequest } from '#apiserver/admission-rule.ts';
import type { ServerContext, WriteOptions } from '#apiserver/resource/server-context.ts';

export type Admission = {
  /** Runs the mutating rules, in order; they change the object in place. */
  mutate(): Promise<void> | undefined;
  /** Runs the validating rules, in order. */
  validate(): Promise<void> | undefined;
};

/**
 * The admission of one write. Rules that have nothing to wait for cost no turn of the event loop.
 */
export function admission(
  server: ServerContext,
  fields: {
    operation: AdmissionRequest['operation'];
    kind: Kind;
    subresource?: string;
    namespace: string;
    name: string;
    object: KubeObject | null;
    oldObject: KubeObject | null;
  },
  options: WriteOptions,
): Admission {
  const request: AdmissionRequest = {
    ...fields,
    subresource: fields.subresource ?? '',
    user: options.user,
    dryRun: options.dryRun,
    warnings: options.warnings,
    annotate: options.annotate,
  };
  return {
    mutate: () => {
      const pending = runFrom(server, request, options.signal, 'mutate', 0);
      // Only rules that wait can ask for another round, or rules that found such a policy.
      if (!pending) return again(server, request, options.signal);
      return pending.then(() => again(server, request, options.signal));
    },
    validate: () => runFrom(server, request, options.signal, 'validate', 0),
  };
}

/** The second round of the mutating rules, where an earlier one has to see later changes. */
function again(
  server: ServerContext,
  request: AdmissionRequest,
  signal: AbortSignal,
): Promise<void> | undefined {
  if (!request.reinvocation?.startRound()) return undefined;
  return runFrom(server, request, signal, 'mutate', 0);
}

function runFrom(
  server: ServerContext,
  request: AdmissionRequest,
  signal: AbortSignal,
  phase: 'mutate' | 'validate',
  start: number,
): Promise<void> | undefined {
  const rules = server.admission;
  const { scheme, reader, authorizer, modify, clock, random } = server;
  const context = { scheme, reader, authorizer, modify, clock, random, signal };
  for (let i = start; i < rules.length; i++) {
    const rule = rules[i];
    if (!rule?.[phase] || !rule.handles(request)) continue;
    const pending = rule[phase](request, context);
    if (pending) return pending.then(() => runFrom(server, request, signal, phase, i + 1));
  }
  return undefined;
}
