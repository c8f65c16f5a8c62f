import { isStatusError } from '#api/status.ts';
import type {
  AdmissionContext,
  AdmissionRequest,
  AdmissionRule,
} from '#apiserver/admission-rule.ts';
import { isExempt } from '#apiserver/match-rules.ts';
import {
  askWebhook,
  CallFailed,
  callError,
  type Hook,
  wantedKind,
  webhooksOf,
} from '#apiserver/webhook-set.ts';

const webhooks = webhooksOf('validating');

/** All that want to see the request are asked at once. Source: ValidatingAdmissionWebhook. */
export const validatingWebhook: AdmissionRule = {
  name: 'ValidatingAdmissionWebhook',
  handles: ({ kind }) => !isExempt(kind),
  validate(request, context) {
    const all = webhooks(context.reader);
    if (all.length === 0) return undefined;
    const asked: Promise<void>[] = [];
    for (const [i, hook] of all.entries()) {
      const pending = ask(hook, i, request, context);
      if (pending) asked.push(pending);
    }
    return asked.length === 0 ? undefined : allAnswers(asked);
  },
};

/** Waits for all, so that none is left running, and throws the first refusal. */
async function allAnswers(asked: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(asked)) {
    if (result.status === 'rejected') throw result.reason;
  }
}

function ask(
  hook: Hook,
  index: number,
  request: AdmissionRequest,
  context: AdmissionContext,
): Promise<void> | null {
  const matched = wantedKind(hook, request, context);
  if (!matched) return null;
  return askWebhook(hook, matched, request, context, false).then(
    () => undefined,
    (error: unknown) => {
      if (isStatusError(error) || !(error instanceof CallFailed)) throw error;
      if (hook.hook.failurePolicy !== 'Ignore') throw callError(error.message);
      const key = `failed-open.validating.webhook.admission.k8s.io/round_0_index_${index}`;
      request.annotate?.(key, hook.hook.name);
    },
  );
}
