import type { Random } from '#base/random.ts';

export type BackoffOptions = {
  /** First delay, milliseconds. */
  initialMs: number;
  /** No delay is longer, milliseconds. */
  maxMs: number;
  /** Growth per failure. Default 2. */
  factor?: number;
  /** Share of the delay that chance may add: 0.1 means up to 10 %. Default 0. */
  jitter?: number;
  random?: Random;
};

/** Delay before retry number `failures` (1 = first retry), milliseconds. */
export function backoffMs(failures: number, options: BackoffOptions): number {
  const { initialMs, maxMs, factor = 2, jitter = 0, random } = options;
  const grown = Math.min(maxMs, initialMs * factor ** Math.max(0, failures - 1));
  return jitter > 0 && random ? grown * (1 + jitter * random()) : grown;
}
