import { isPlainObject } from '#api/json.ts';

/**
 * The order of merged lists: items of the patch follow the patch's order, items only the server has
 * keep theirs, and the two are woven together by the order the server had before.
 * Source: k8s.io/community strategic-merge-patch.md, "Order of items".
 */

/** What tells an item from the others: its merge key's value, or the primitive itself. */
const identity = (item: unknown, mergeKey: string): unknown =>
  mergeKey !== '' && isPlainObject(item) ? item[mergeKey] : item;

const placeIn = (order: readonly unknown[], item: unknown, mergeKey: string): number => {
  const wanted = identity(item, mergeKey);
  return order.findIndex((other) => identity(other, mergeKey) === wanted);
};

/** True when `items` is a subsequence of `order`. */
export function inOrder(
  items: readonly unknown[],
  order: readonly unknown[],
  mergeKey: string,
): boolean {
  let from = 0;
  for (const item of items) {
    const wanted = identity(item, mergeKey);
    while (from < order.length && identity(order[from], mergeKey) !== wanted) from++;
    if (from++ >= order.length) return false;
  }
  return true;
}

export function normalizeOrder({
  merged,
  order,
  server,
  mergeKey,
}: {
  merged: readonly unknown[];
  /** The patch's list or its `$setElementOrder`. */
  order: readonly unknown[];
  /** The list as the server had it. */
  server: readonly unknown[];
  mergeKey: string;
}): unknown[] {
  const ours = merged.filter((item) => placeIn(order, item, mergeKey) >= 0);
  const others = merged.filter((item) => placeIn(order, item, mergeKey) < 0);
  const sorted = (items: unknown[], by: readonly unknown[]): unknown[] =>
    items
      .map((item) => ({ item, place: placeIn(by, item, mergeKey) }))
      .sort((a, b) => (a.place < 0 || b.place < 0 ? 0 : a.place - b.place))
      .map(({ item }) => item);
  return weave(sorted(others, server), sorted(ours, order), server, mergeKey);
}

/** Takes from `right` unless the server had the next of `left` before the next of `right`. */
function weave(
  left: unknown[],
  right: unknown[],
  server: readonly unknown[],
  mergeKey: string,
): unknown[] {
  const woven: unknown[] = [];
  let i = 0;
  let j = 0;
  while (i < left.length && j < right.length) {
    const place = placeIn(server, left[i], mergeKey);
    const other = placeIn(server, right[j], mergeKey);
    if (place >= 0 && other >= 0 && place < other) woven.push(left[i++]);
    else woven.push(right[j++]);
  }
  return [...woven, ...left.slice(i), ...right.slice(j)];
}
