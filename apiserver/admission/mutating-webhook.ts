import type { Kind } from '#api/kind.ts';
import { jsonPatch } from '#api/patch.ts';
import { isStatusError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type {
  AdmissionContext,
  AdmissionRequest,
  AdmissionRule,
} from '#apiserver/admission-rule.ts';
import { asKind, isExempt } from '#apiserver/match-rules.ts';
import { changeObject } from '#apiserver/mutation.ts';
import { Reinvocation } from '#apiserver/reinvocation.ts';
import {
  askWebhook,
  CallFailed,
  callError,
  failed,
  type Hook,
  type ReviewResponse,
  wantedKind,
  webhooksOf,
} from '#apiserver/webhook-set.ts';
import { parseExact } from '#base/exact-json.ts';

const webhooks = webhooksOf('mutating');

/** One after the other: each sees what those before it made. Source: MutatingAdmissionWebhook. */
export const mutatingWebhook: AdmissionRule = {
  name: 'MutatingAdmissionWebhook',
  handles: ({ kind }) => !isExempt(kind),
  mutate(request, context) {
    const all = webhooks(context.reader);
    return all.length === 0 ? undefined : callAll(all, request, context);
  },
};

async function callAll(
  all: readonly Hook[],
  request: AdmissionRequest,
  context: AdmissionContext,
): Promise<void> {
  let asked = false;
  for (const hook of all) {
    const matched = wantedKind(hook, request, context);
    if (!matched) continue;
    request.reinvocation ??= new Reinvocation();
    if (!asked) request.reinvocation.enter(request.object);
    asked = true;
    const id = `webhook ${hook.configuration}/${hook.index}`;
    if (!request.reinvocation.mayCall(id)) continue;
    const changed = await call(hook, matched, request, context);
    request.reinvocation.called(id, hook.hook.reinvocationPolicy === 'IfNeeded', changed);
  }
  if (asked) request.reinvocation?.leave(request.object);
}

/** Whether it changed the object. */
async function call(
  hook: Hook,
  matched: Kind,
  request: AdmissionRequest,
  context: AdmissionContext,
): Promise<boolean> {
  try {
    const response = await askWebhook(hook, matched, request, context, true);
    const changed = applyPatch(hook, matched, request, context, response);
    if (!response.patch) note(hook, request, { mutated: false });
    return changed;
  } catch (error) {
    if (isStatusError(error) || !(error instanceof CallFailed)) throw error;
    if (hook.hook.failurePolicy !== 'Ignore') throw callError(error.message);
    const key = `failed-open.mutation.${placeOf(hook, request)}`;
    note(hook, request, { mutated: false });
    request.annotate?.(key, hook.hook.name);
    return false;
  }
}

const placeOf = ({ index }: Hook, { reinvocation }: AdmissionRequest): string =>
  `webhook.admission.k8s.io/round_${reinvocation?.round ?? 0}_index_${index}`;

/** What a webhook did, for the audit log; the patch itself where bodies are recorded, too. */
function note(
  hook: Hook,
  request: AdmissionRequest,
  { mutated, patch }: { mutated: boolean; patch?: readonly unknown[] },
): void {
  const who = { configuration: hook.configuration, webhook: hook.hook.name };
  const place = placeOf(hook, request);
  request.annotate?.(`mutation.${place}`, JSON.stringify({ ...who, mutated }));
  if (!patch) return;
  const text = JSON.stringify({ ...who, patch, patchType: 'JSONPatch' });
  request.annotate?.(`patch.${place}`, text, 'Request');
}

function applyPatch(
  by: Hook,
  matched: Kind,
  request: AdmissionRequest,
  context: AdmissionContext,
  response: ReviewResponse,
): boolean {
  if (!response.patch) return false;
  const { hook } = by;
  const operations = readPatch(hook.name, response.patch);
  if (operations.length === 0) {
    note(by, request, { mutated: false });
    return false;
  }
  const current = asKind(request.object, request.kind, matched);
  if (!current) {
    const why = `admission webhook "${hook.name}" attempted to modify the object, which is not supported for this operation`;
    throw callError(why);
  }
  if (response.patchType !== 'JSONPatch') {
    throw failed(hook.name, `unsupported patch type ${JSON.stringify(response.patchType ?? '')}`);
  }
  const before = JSON.stringify(request.object);
  changeObject(
    request,
    context,
    asKind(patched(current, operations), matched, request.kind) as KubeObject,
  );
  const mutated = JSON.stringify(request.object) !== before;
  note(by, request, { mutated, patch: operations });
  return mutated;
}

function readPatch(name: string, patch: string): unknown[] {
  try {
    const operations = parseExact(Buffer.from(patch, 'base64').toString('utf8'));
    if (Array.isArray(operations)) return operations;
    throw new SyntaxError('json: cannot unmarshal object into Go value of type jsonpatch.Patch');
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw failed(name, `received undecodable patch in webhook response: ${why}`);
  }
}

function patched(current: KubeObject, operations: readonly unknown[]): KubeObject {
  try {
    return jsonPatch(current, operations) as KubeObject;
  } catch (error) {
    if (!isStatusError(error)) throw error;
    throw callError(error.cause instanceof Error ? error.cause.message : error.message);
  }
}
