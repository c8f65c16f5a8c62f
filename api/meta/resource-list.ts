import { canonicalQuantity } from '#api/quantity.ts';

/** Spellings that are canonical as they are; the others are rewritten. Most users write these. */
const CANONICAL = /^(?:0|[1-9]\d{0,2}(?:m|k|M|G|T|Ki|Mi|Gi|Ti)?)$/;

/**
 * A quantity as it is stored and shown: `1000m` becomes `1`. What is no quantity stays, for the
 * decoder to complain about. Source: resource.Quantity in the API reference.
 */
export function canonicalText(value: string | number): string {
  const text = typeof value === 'string' ? value : String(value);
  if (CANONICAL.test(text)) return text;
  try {
    return canonicalQuantity(text);
  } catch {
    return text;
  }
}

/** Rewrites each quantity of a resource list in place. */
export function canonicalResources(list: Record<string, string | number> | null | undefined): void {
  if (!list) return;
  for (const name of Object.keys(list)) {
    const value = list[name];
    if (value != null) list[name] = canonicalText(value);
  }
}
