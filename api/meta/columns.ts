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

/** The only column of kinds without a table of their own, instead of the age. */
export const CREATED_AT: Column = {
  name: 'Created At',
  type: 'date',
  describedBy: 'V1ObjectMeta.creationTimestamp',
  value: (object) => object.metadata.creationTimestamp ?? '',
};

/** `about`: `Model.field` whose documentation describes the column, or the description itself. */
const described = (about: string | undefined): { describedBy?: string; description?: string } => {
  if (about === undefined) return {};
  return /^[A-Za-z]*V\d+\w*(\.\w+)?$/.test(about) ? { describedBy: about } : { description: about };
};

export const text = <T extends KubeObject>(
  name: string,
  value: (object: T, now: number) => string,
  about?: string,
): Column<T> => ({ name, type: 'string', value, ...described(about) });

export const integer = <T extends KubeObject>(
  name: string,
  value: (object: T, now: number) => number,
  about?: string,
): Column<T> => ({ name, type: 'integer', value, ...described(about) });

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
    text(
      'Containers',
      (object) => (template(object)?.spec?.containers ?? []).map((c) => c.name).join(','),
      'Names of each container in the template.',
    ),
  ),
  wide(
    text(
      'Images',
      (object) => (template(object)?.spec?.containers ?? []).map((c) => c.image ?? '').join(','),
      'Images referenced by each container in the template.',
    ),
  ),
];

export const selectorColumn = <T extends KubeObject>(
  selector: (object: T) => LabelSelector | undefined,
  about: string,
): Column<T> => wide(text('Selector', (object) => formatLabelSelector(selector(object)), about));

/** A map as tables print selectors: `a=b,c=d`, sorted. */
export function formatMap(map: Readonly<Record<string, string>> | undefined | null): string {
  const entries = Object.entries(map ?? {});
  if (entries.length === 0) return NONE;
  return entries
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join(',');
}
