/** How many items a table cell spells out before it only counts. */
const SHOWN = 3;

/** `a,b,c + 2 more...`, or `empty` for nothing. */
export function shortList(items: readonly string[], empty: string): string {
  if (items.length === 0) return empty;
  const text = items.slice(0, SHOWN).join(',');
  return (items.length > SHOWN ? `${text} + ${items.length - SHOWN} more...` : text) || empty;
}

export const hostPort = (host: string, port: number): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
