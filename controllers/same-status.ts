import { isDeepStrictEqual } from 'node:util';

/**
 * Do two statuses say the same? The wire leaves out zeros and empty parts, so they do not count as
 * a difference.
 */
export function isSameStatus(a: object | undefined, b: object | undefined): boolean {
  return isDeepStrictEqual(said(a ?? {}), said(b ?? {}));
}

const said = (status: object): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(status).filter(
      ([, value]) => value !== 0 && value !== undefined && !isDeepStrictEqual(value, {}),
    ),
  );
