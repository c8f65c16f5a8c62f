/** What tests of every folder wait with. */

/** Longer than anything the tests wait for takes on a busy machine. */
const LIMIT_MS = 45_000;

/**
 * Looks once a turn of the event loop until `condition` holds. Throws after `limitMs`, naming `what`:
 * a loop that outlives its test would hold up every test after it.
 */
export async function until(
  what: string,
  condition: () => boolean,
  limitMs = LIMIT_MS,
): Promise<void> {
  const end = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`${what}: not within ${limitMs / 1000} s`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
