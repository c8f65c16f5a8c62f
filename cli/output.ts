import type { KubeObject } from '#api/types.ts';
import { UserError } from '#cli/verb.ts';

/** meta.k8s.io/v1 Table, as the server prints lists. */
export type Table = {
  kind: 'Table';
  metadata: { resourceVersion?: string };
  columnDefinitions: { name: string; type: string; priority?: number }[];
  rows: { cells: unknown[]; object?: KubeObject }[];
};

export const TABLE_ACCEPT = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';

export type OutputFormat = 'table' | 'wide' | 'json' | 'yaml' | 'name';

export function outputFormat(flag: string | undefined): OutputFormat {
  switch (flag) {
    case undefined:
      return 'table';
    case 'wide':
    case 'json':
    case 'yaml':
    case 'name':
      return flag;
    default:
      throw new UserError(`unknown output format "${flag}"; use one of wide, json, yaml, name`);
  }
}

/** Columns padded to their widest cell, three spaces apart; the last column is not padded. */
export function formatRows(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  }
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd((widths[i] ?? 0) + 3)))
        .join('')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

export type TableOptions = {
  wide: boolean;
  namespaces: boolean;
  headers: boolean;
  prefix?: string;
};

/** The server's table as text. */
export function formatTable(table: Table, options: TableOptions): string {
  const shown = table.columnDefinitions
    .map((column, index) => ({ column, index }))
    .filter(({ column }) => options.wide || (column.priority ?? 0) === 0);
  const lead = options.namespaces ? ['NAMESPACE'] : [];
  const header = [...lead, ...shown.map(({ column }) => column.name.toUpperCase())];
  const rows = table.rows.map((row) => [
    ...(options.namespaces ? [row.object?.metadata.namespace ?? ''] : []),
    ...shown.map(({ index }) => {
      const text = cellText(row.cells[index]);
      return index === 0 && options.prefix ? `${options.prefix}/${text}` : text;
    }),
  ]);
  return formatRows(options.headers ? [header, ...rows] : rows);
}

function cellText(cell: unknown): string {
  if (cell === null || cell === undefined || cell === '') return '<none>';
  return typeof cell === 'string' ? cell : JSON.stringify(cell);
}

/** One object or list as YAML or JSON text, ending in a newline. */
export async function formatObject(value: unknown, format: 'json' | 'yaml'): Promise<string> {
  if (format === 'json') return `${JSON.stringify(value, null, 4)}\n`;
  const { stringify } = await import('yaml');
  // Readers of YAML 1.1 would take a bare time for a date, and a bare `yes` for true.
  return stringify(value, {
    version: '1.1',
    lineWidth: 0,
    sortMapEntries: true,
    aliasDuplicateObjects: false,
  });
}

/** `3d4h`, as kubectl prints ages. */
export function age(sinceIso: string | undefined, now: number): string {
  if (!sinceIso) return '<unknown>';
  const seconds = Math.max(0, Math.floor((now - Date.parse(sinceIso)) / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (seconds < 120) return `${seconds}s`;
  if (minutes < 10) return seconds % 60 ? `${minutes}m${seconds % 60}s` : `${minutes}m`;
  if (hours < 3) return `${minutes}m`;
  if (hours < 8) return minutes % 60 ? `${hours}h${minutes % 60}m` : `${hours}h`;
  if (hours < 48) return `${hours}h`;
  if (days < 8) return hours % 24 ? `${days}d${hours % 24}h` : `${days}d`;
  return `${days}d`;
}
