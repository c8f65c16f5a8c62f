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

/**
 * Asks again every `lookMs` until `check` returns something, and returns it. Throws after `timeoutMs`
 * with the last thing that `check` complained of; `what` names what was waited for.
 */
export async function eventually<Result>(
  what: string | (() => string),
  check: () => Promise<Result | undefined | false | null>,
  timeoutMs = 60_000,
  lookMs = 100,
): Promise<Result> {
  const end = performance.now() + timeoutMs;
  let last: unknown;
  while (performance.now() < end) {
    try {
      const result = await check();
      if (result) return result;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, lookMs));
  }
  throw new Error(
    `${typeof what === 'string' ? what : what()}: not within ${timeoutMs / 1000} s`,
    last === undefined ? {} : { cause: last },
  );
}
