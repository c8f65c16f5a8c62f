import type { Column } from '#api/kind.ts';
import { humanAge } from '#api/meta/duration.ts';
import { formatLabelSelector } from '#api/meta/selector-text.ts';
import type { Container, KubeObject, LabelSelector } from '#api/types.ts';

/** What tables show for nothing. */
export const NONE = '<none>';
export const UNSET = '<unset>';

/** For kinds with columns behind the age; they set `ageColumn: false`. */
export const AGE: Column = {
  name: 'Age',
  type: 'string',
  describedBy: 'V1ObjectMeta.creationTimestamp',
  value: (object, now) => humanAge(object.metadata.creationTimestamp, now),
};

export const text = <T extends KubeObject>(
  name: string,
  value: (object: T, now: number) => string,
  describedBy?: string,
): Column<T> => ({ name, type: 'string', value, ...(describedBy ? { describedBy } : {}) });

export const integer = <T extends KubeObject>(
  name: string,
  value: (object: T, now: number) => number,
  describedBy?: string,
): Column<T> => ({ name, type: 'integer', value, ...(describedBy ? { describedBy } : {}) });

/** The same column, shown with `-o wide` only. */
export const wide = <T extends KubeObject>(column: Column<T>): Column<T> => ({
  ...column,
  priority: 1,
});

export const joinOr = (
  values: readonly (string | undefined)[] | undefined,
  empty: string,
): string => (values && values.length > 0 ? values.join(',') : empty);

type HasTemplate = { spec?: { containers?: Container[] } } | undefined;

/** `Containers` and `Images`, the wide columns of every kind with a pod template. */
export const templateColumns = <T extends KubeObject>(
  template: (object: T) => HasTemplate,
): Column<T>[] => [
  wide(
    text('Containers', (object) =>
      (template(object)?.spec?.containers ?? []).map((c) => c.name).join(','),
    ),
  ),
  wide(
    text('Images', (object) =>
      (template(object)?.spec?.containers ?? []).map((c) => c.image ?? '').join(','),
    ),
  ),
];

export const selectorColumn = <T extends KubeObject>(
  selector: (object: T) => LabelSelector | undefined,
): Column<T> => wide(text('Selector', (object) => formatLabelSelector(selector(object))));

/** A map as tables print selectors: `a=b,c=d`, sorted. */
export function formatMap(map: Readonly<Record<string, string>> | undefined | null): string {
  const entries = Object.entries(map ?? {});
  if (entries.length === 0) return NONE;
  return entries
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join(',');
}
