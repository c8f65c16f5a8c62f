import type * as models from '@kubernetes/client-node';
import type { Node, Plain } from '#api/types.ts';

export type NodeSelectorTerm = Plain<models.V1NodeSelectorTerm>;
type Requirement = Plain<models.V1NodeSelectorRequirement>;

/** Does the node match every requirement of the term? An empty term matches nothing. */
export function matchesNodeSelectorTerm(term: NodeSelectorTerm, node: Node): boolean {
  const expressions = term.matchExpressions ?? [];
  const fields = term.matchFields ?? [];
  if (expressions.length === 0 && fields.length === 0) return false;
  const labels = node.metadata.labels ?? {};
  return (
    expressions.every((e) => matches(e, labels[e.key])) &&
    fields.every((f) => matches(f, f.key === 'metadata.name' ? node.metadata.name : undefined))
  );
}

function matches({ operator, values = [] }: Requirement, actual: string | undefined): boolean {
  switch (operator) {
    case 'In':
      return actual !== undefined && values.includes(actual);
    case 'NotIn':
      return actual === undefined || !values.includes(actual);
    case 'Exists':
      return actual !== undefined;
    case 'DoesNotExist':
      return actual === undefined;
    case 'Gt':
      return actual !== undefined && Number(actual) > Number(values[0]);
    case 'Lt':
      return actual !== undefined && Number(actual) < Number(values[0]);
    default:
      return false;
  }
}
