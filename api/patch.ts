import { cloneJson, isPlainObject, parseJson } from '#api/json.ts';
import type { ParsedJson } from '#api/json.ts';
import { scanJson } from '#api/json-scan.ts';
import { asOperations, unknownMembers } from '#api/patch-json.ts';
import { badRequestError } from '#api/status.ts';

export { jsonPatch } from '#api/patch-json.ts';
export type { JsonPatchOperation } from '#api/patch-json.ts';
export { goText, strategicMergePatch } from '#api/patch-strategic.ts';

/** The patches whose bodies are read here; apply has a module of its own. */
export type PatchType = 'json' | 'merge' | 'strategic';

/** `unknown` are members of JSON Patch operations that mean nothing: `unknown field "[0].comment"`. */
export type ParsedPatch = ParsedJson & { unknown: string[] };

/**
 * Reads a patch's body, with upstream's refusals: a JSON Patch has to be a list of operations, the
 * others an object. Throws StatusError 400 and 413.
 */
export function readPatch(
  type: PatchType,
  body: Uint8Array,
  options: { findDuplicates?: boolean } = {},
): ParsedPatch {
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8');
  const prefix = type === 'json' ? 'error decoding patch: ' : '';
  let parsed: ParsedJson;
  try {
    parsed = parseJson(text, options);
  } catch (error) {
    const scan = scanJson(text);
    if ('error' in scan) throw badRequestError(`${prefix}${scan.error}`);
    throw error;
  }
  if (type === 'json') return { ...parsed, unknown: unknownMembers(asOperations(parsed.value)) };
  if (!isPlainObject(parsed.value)) {
    const found = Array.isArray(parsed.value) ? 'array' : typeof parsed.value;
    throw badRequestError(
      `json: cannot unmarshal ${found} into Go value of type map[string]interface {}`,
    );
  }
  return { ...parsed, unknown: [] };
}

/** JSON Merge Patch: null removes, objects merge, all else replaces. Source: RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isPlainObject(patch)) return cloneJson(patch);
  const result = isPlainObject(target) ? cloneJson(target) : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = mergePatch(result[name], value);
  }
  return result;
}
