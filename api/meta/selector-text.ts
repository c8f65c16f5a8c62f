import type { LabelSelector } from '#api/types.ts';

/**
 * A label selector as text: `a=b,c in (d,e),!f`; `<none>` for one that selects everything or is
 * absent. Requirements come sorted by key, as parsers of selectors keep them.
 */
export function formatLabelSelector(selector: LabelSelector | null | undefined): string {
  const parts: { key: string; text: string }[] = [];
  for (const [key, value] of Object.entries(selector?.matchLabels ?? {})) {
    parts.push({ key, text: `${key}=${value}` });
  }
  for (const { key, operator, values } of selector?.matchExpressions ?? []) {
    const set = `(${[...(values ?? [])].sort().join(',')})`;
    switch (operator) {
      case 'In':
        parts.push({ key, text: `${key} in ${set}` });
        break;
      case 'NotIn':
        parts.push({ key, text: `${key} notin ${set}` });
        break;
      case 'Exists':
        parts.push({ key, text: key });
        break;
      case 'DoesNotExist':
        parts.push({ key, text: `!${key}` });
        break;
      default:
        return '<error>';
    }
  }
  if (parts.length === 0) return '<none>';
  return parts
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    .map((part) => part.text)
    .join(',');
}
