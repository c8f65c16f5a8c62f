import type { Column } from '#api/kind.ts';
import { AGE, text, wide } from '#api/meta/columns.ts';
import type { ClusterRoleBinding, KubeObject, RoleBinding } from '#api/types.ts';

type Binding = (RoleBinding | ClusterRoleBinding) & KubeObject;

const subjects = (object: Binding, kind: string): string =>
  (object.subjects ?? [])
    .filter((subject) => subject.kind === kind)
    .map(({ name, namespace }) => (kind === 'ServiceAccount' ? `${namespace ?? ''}/${name}` : name))
    .join(', ');

/** Role bindings of both scopes look the same. */
export const bindingColumns = (): Column<Binding>[] => [
  text('Role', (object) => `${object.roleRef?.kind ?? ''}/${object.roleRef?.name ?? ''}`),
  AGE as Column<Binding>,
  wide(text('Users', (object) => subjects(object, 'User'))),
  wide(text('Groups', (object) => subjects(object, 'Group'))),
  wide(text('ServiceAccounts', (object) => subjects(object, 'ServiceAccount'))),
];

/** Some tables show the instant instead of the age. */
export const CREATED_AT: Column = {
  name: 'Created At',
  type: 'date',
  describedBy: 'V1ObjectMeta.creationTimestamp',
  value: (object) => object.metadata.creationTimestamp ?? '',
};
