import type { Column } from '#api/kind.ts';
import { AGE, text, wide } from '#api/meta/columns.ts';
import type { ClusterRoleBinding, KubeObject, RoleBinding } from '#api/types.ts';

type Binding = (RoleBinding | ClusterRoleBinding) & KubeObject;

const subjects = (object: Binding, kind: string): string =>
  (object.subjects ?? [])
    .filter((subject) => subject.kind === kind)
    .map(({ name, namespace }) => (kind === 'ServiceAccount' ? `${namespace ?? ''}/${name}` : name))
    .join(', ');

const subjectsOf = (what: string, kind: string): string =>
  `${what} in the ${kind.charAt(0).toLowerCase()}${kind.slice(1)}`;

/** Role bindings of both scopes look the same. */
export const bindingColumns = (kind: 'RoleBinding' | 'ClusterRoleBinding'): Column<Binding>[] => [
  text(
    'Role',
    (object) => `${object.roleRef?.kind ?? ''}/${object.roleRef?.name ?? ''}`,
    `V1${kind}.roleRef`,
  ),
  AGE as Column<Binding>,
  wide(text('Users', (object) => subjects(object, 'User'), subjectsOf('Users', kind))),
  wide(text('Groups', (object) => subjects(object, 'Group'), subjectsOf('Groups', kind))),
  wide(
    text(
      'ServiceAccounts',
      (object) => subjects(object, 'ServiceAccount'),
      subjectsOf('ServiceAccounts', kind),
    ),
  ),
];
