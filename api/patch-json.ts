import { cloneJson, equalJson, isPlainObject } from '#api/json.ts';
import { StatusError, badRequestError, failure } from '#api/status.ts';

/** JSON Patch. Source: RFC 6902; what upstream lets through beside it is said where it happens. */
export type JsonPatchOperation = {
  op: string;
  path?: string;
  from?: string;
  value?: unknown;
};

/** Upstream's bound on the operations of one patch. */
export const MAX_OPERATIONS = 10_000;
/** Copies may not make an object larger than a request may be. */
const MAX_COPIED_BYTES = 3 * 1024 * 1024;

/** Takes a parsed body for a list of operations. Throws StatusError 400 and 413. */
export function asOperations(value: unknown): JsonPatchOperation[] {
  if (!Array.isArray(value)) {
    const type = value === null ? 'null' : typeof value === 'boolean' ? 'bool' : typeof value;
    throw badRequestError(
      `error decoding patch: json: cannot unmarshal ${type} into Go value of type []handlers.jsonPatchOp`,
    );
  }
  if (value.length > MAX_OPERATIONS) {
    throw failure(
      413,
      'RequestEntityTooLarge',
      `Request entity is too large: The allowed maximum operations in a JSON patch is ${MAX_OPERATIONS}, got ${value.length}`,
    );
  }
  for (const operation of value) {
    if (!isPlainObject(operation)) {
      throw badRequestError(
        'error decoding patch: json: cannot unmarshal a value that is no object into Go value of type handlers.jsonPatchOp',
      );
    }
  }
  return value as JsonPatchOperation[];
}

const MEMBERS = new Set(['op', 'path', 'from', 'value']);

/** What strict field validation finds in operations. */
export function unknownMembers(operations: readonly JsonPatchOperation[]): string[] {
  return operations.flatMap((operation, index) =>
    Object.keys(operation)
      .filter((name) => !MEMBERS.has(name))
      .map((name) => `unknown field "[${index}].${name}"`),
  );
}

/** Upstream answers every operation that cannot be done with this one text; ours is its cause. */
const rejected = (why: string): Error =>
  new StatusError(
    failure(422, 'Invalid', 'the server rejected our request due to an error in our request', {})
      .status,
    { cause: new Error(why) },
  );

/** Does the operations in order on a copy. Throws StatusError 400, 413 and 422; `target` is kept. */
export function jsonPatch(target: unknown, operations: unknown): unknown {
  let document = cloneJson(target);
  const budget = { bytes: MAX_COPIED_BYTES };
  for (const operation of asOperations(operations)) {
    document = apply(document, operation, budget);
  }
  return document;
}

function apply(
  document: unknown,
  operation: JsonPatchOperation,
  budget: { bytes: number },
): unknown {
  const { op, path, from, value = null } = operation;
  if (typeof path !== 'string') throw rejected(`${op} operation has no path`);
  const steps = stepsOf(path);
  switch (op) {
    case 'add':
      return put(document, steps, cloneJson(value), 'add');
    case 'replace':
      return put(document, steps, cloneJson(value), 'replace');
    case 'remove':
      return take(document, steps).rest;
    case 'test':
      if (!equalJson(read(document, steps, true) ?? null, value)) {
        throw rejected(`testing value ${path} failed`);
      }
      return document;
    case 'move': {
      const source = stepsOf(fromOf(operation));
      if (steps.length > source.length && source.every((step, i) => step === steps[i])) {
        throw rejected(`cannot move ${from} into itself at ${path}`);
      }
      const { taken, rest } = take(document, source);
      return put(rest, steps, taken, 'add');
    }
    case 'copy': {
      const copied = cloneJson(read(document, stepsOf(fromOf(operation)), false));
      budget.bytes -= JSON.stringify(copied)?.length ?? 0;
      if (budget.bytes < 0) throw rejected('copy operations make the object too large');
      return put(document, steps, copied, 'add');
    }
    default:
      throw rejected(`unexpected kind of operation: ${String(op)}`);
  }
}

function fromOf({ op, from }: JsonPatchOperation): string {
  if (typeof from !== 'string') throw rejected(`${op} operation has no from`);
  return from;
}

/** JSON Pointer → its steps. Source: RFC 6901. */
function stepsOf(pointer: string): string[] {
  if (pointer === '') return [];
  if (!pointer.startsWith('/'))
    throw rejected(`${pointer} is no JSON pointer: it has to begin with /`);
  return pointer
    .slice(1)
    .split('/')
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** A list's index; `end` allows the place after the last item. */
function indexOf(list: readonly unknown[], step: string, end: boolean): number {
  if (end && step === '-') return list.length;
  const index = /^(0|[1-9]\d{0,8})$/.test(step) ? Number(step) : -1;
  if (index < 0 || index >= list.length + (end ? 1 : 0)) {
    throw rejected(`index ${step} is outside a list of ${list.length} items`);
  }
  return index;
}

function child(parent: unknown, step: string): unknown {
  if (Array.isArray(parent)) return parent[indexOf(parent, step, false)];
  if (!isPlainObject(parent))
    throw rejected(`there is nothing at ${step}: its parent has no members`);
  return Object.hasOwn(parent, step) ? parent[step] : undefined;
}

function read(document: unknown, steps: readonly string[], missingIsFine: boolean): unknown {
  let current = document;
  for (const [i, step] of steps.entries()) {
    current = child(current, step);
    if (current === undefined && (!missingIsFine || i < steps.length - 1)) {
      throw rejected(`there is nothing at /${steps.slice(0, i + 1).join('/')}`);
    }
  }
  return current;
}

const last = (steps: readonly string[]): string => steps[steps.length - 1] ?? '';

/** Upstream lets `replace` of a missing member pass as an `add`. */
function put(
  document: unknown,
  steps: readonly string[],
  value: unknown,
  op: 'add' | 'replace',
): unknown {
  if (steps.length === 0) return value;
  const parent = read(document, steps.slice(0, -1), false);
  const step = last(steps);
  if (Array.isArray(parent)) {
    if (op === 'add') parent.splice(indexOf(parent, step, true), 0, value);
    else parent[indexOf(parent, step, false)] = value;
  } else if (isPlainObject(parent)) {
    if (step === '__proto__') throw rejected('the member __proto__ is not allowed');
    parent[step] = value;
  } else {
    throw rejected(`cannot ${op} ${step}: its parent has no members`);
  }
  return document;
}

function take(document: unknown, steps: readonly string[]): { taken: unknown; rest: unknown } {
  if (steps.length === 0) return { taken: document, rest: null };
  const parent = read(document, steps.slice(0, -1), false);
  const step = last(steps);
  if (Array.isArray(parent)) {
    const [taken] = parent.splice(indexOf(parent, step, false), 1) as unknown[];
    return { taken, rest: document };
  }
  const taken = child(parent, step);
  if (taken === undefined) throw rejected(`there is nothing to remove at /${steps.join('/')}`);
  delete (parent as Record<string, unknown>)[step];
  return { taken, rest: document };
}
