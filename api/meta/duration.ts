const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const YEAR = 365 * DAY;

/** Clock differences up to this many milliseconds into the future count as now. */
const TOLERATED_FUTURE_MS = 2 * SECOND;

const two = (first: number, firstUnit: string, second: number, secondUnit: string): string =>
  second === 0 ? `${first}${firstUnit}` : `${first}${firstUnit}${second}${secondUnit}`;

/**
 * A duration in milliseconds as tables show ages: at most two units, less precise as it grows
 * (`45s`, `3m12s`, `7h5m`, `2d4h`, `3y20d`). Source: kubectl's documented output.
 */
export function humanDuration(ms: number): string {
  if (ms <= -TOLERATED_FUTURE_MS) return '<invalid>';
  if (ms < SECOND) return '0s';
  const seconds = Math.floor(ms / SECOND);
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(ms / MINUTE);
  if (minutes < 10) return two(minutes, 'm', seconds % 60, 's');
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(ms / HOUR);
  if (hours < 8) return two(hours, 'h', minutes % 60, 'm');
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(ms / DAY);
  if (days < 8) return two(days, 'd', hours % 24, 'h');
  if (days < 365 * 2) return `${days}d`;
  const years = Math.floor(ms / YEAR);
  if (years < 8) return two(years, 'y', days % 365, 'd');
  return `${years}y`;
}

/** The time since an RFC 3339 instant; `<unknown>` where there is none. */
export function humanAge(since: string | null | undefined, now: number): string {
  if (!since) return '<unknown>';
  return humanDuration(now - Date.parse(since));
}
