import assert from 'node:assert/strict';
import type { Range } from '#apiserver/store/store.ts';

/**
 * The smallest key greater than every key with this prefix, in the order of UTF-8 bytes (which is
 * the order of code points); null when there is none, as for the empty prefix.
 */
export function prefixEnd(prefix: string): string | null {
  const points = Array.from(prefix, (char) => char.codePointAt(0) ?? 0);
  for (let last = points.pop(); last !== undefined; last = points.pop()) {
    if (last === 0x10ffff) continue;
    // The surrogates are no code points of their own: step over them.
    const next = last === 0xd7ff ? 0xe000 : last + 1;
    return String.fromCodePoint(...points, next);
  }
  return null;
}

/** Whether the key belongs to the range. */
export function inRange(range: Range, key: string): boolean {
  return key.startsWith(range.prefix);
}

/** A wrong key is the caller's defect, never a user's input: user input is validated before. */
export function assertKey(key: string): void {
  assert(key !== '' && !key.includes('\0') && key.isWellFormed(), `not a store key: ${key}`);
}
