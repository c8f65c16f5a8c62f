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
    mutate: () => runFrom(server, request, options.signal, 'mutate', 0),
    validate: () => runFrom(server, request, options.signal, 'validate', 0),
  };
}

function runFrom(
  server: ServerContext,
  request: AdmissionRequest,
  signal: AbortSignal,
  phase: 'mutate' | 'validate',
  start: number,
): Promise<void> | undefined {
  const rules = server.admission;
  for (let i = start; i < rules.length; i++) {
    const rule = rules[i];
    if (!rule?.[phase] || !rule.handles(request)) continue;
    const { reader, authorizer, modify, clock, random } = server;
    const pending = rule[phase](request, { reader, authorizer, modify, clock, random, signal });
    if (pending) return pending.then(() => runFrom(server, request, signal, phase, i + 1));
  }
  return undefined;
}
