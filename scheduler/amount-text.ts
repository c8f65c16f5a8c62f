const UNITS = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi'] as const;

/** 1500 → `1500m`, 2000 → `2`: cpu as users write it. */
export const canonicalMilli = (milli: number): string =>
  milli % 1000 === 0 ? String(milli / 1000) : `${milli}m`;

/** 134217728 → `128Mi`; rounded to a tenth of the unit, because it is meant to be read. */
export function canonicalBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Math.round(value * 10) / 10}${UNITS[unit]}`;
}
