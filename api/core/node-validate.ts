import { EFFECTS } from '#api/core/pod-validate-affinity.ts';
import { checkResourceQuantity } from '#api/core/resource-names.ts';
import { duplicate, forbidden, invalid, required } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import type { KubeObject, Node, Taint } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkEnum, checkQualifiedName } from '#api/validate.ts';
import { isLabelValue } from '#api/validate-names.ts';
import { checkCidr, cidrFamily, isDualStack } from '#api/validate-network.ts';

const FIXED_CIDR = 'node updates may not change podCIDR except from "" to valid';
const FIXED_PROVIDER = 'node updates may not change providerID except from "" to valid';

/** Source: core/v1 Node. */
export function validateNode(node: Node): Errors {
  const errors: Errors = [];
  checkTaints(errors, 'metadata.taints', node.spec?.taints ?? []);
  for (const list of ['capacity', 'allocatable'] as const) {
    for (const [name, value] of Object.entries(node.status?.[list] ?? {})) {
      checkResourceQuantity(errors, `status.${list}.${name}`, name, value);
    }
  }
  checkPodCidrs(errors, node.spec?.podCIDRs ?? []);
  return errors;
}

function checkTaints(errors: Errors, path: string, taints: readonly Taint[]): void {
  const seen = new Set<string>();
  for (const [i, taint] of taints.entries()) {
    const at = `${path}[${i}]`;
    checkQualifiedName(errors, `${at}.key`, taint.key ?? '');
    const problems = isLabelValue(taint.value ?? '');
    if (problems.length > 0) errors.push(invalid(`${at}.value`, taint.value, problems.join(';')));
    if (!taint.effect) errors.push(required(`${at}.effect`));
    else checkEnum(errors, `${at}.effect`, taint.effect, EFFECTS);
    const key = `${taint.key}:${taint.effect}`;
    if (seen.has(key)) {
      const error = duplicate(at, internalForm('Taint', taint));
      error.message += ': taints must be unique by key and effect pair';
      errors.push(error);
    }
    seen.add(key);
  }
}

function checkPodCidrs(errors: Errors, cidrs: readonly string[]): void {
  const path = 'spec.podCIDRs';
  for (const [i, cidr] of cidrs.entries()) checkCidr(errors, `${path}[${i}]`, cidr);
  if (cidrs.length < 2) return;
  if (!isDualStack(cidrs.map(cidrFamily)) || cidrs.length > 2) {
    errors.push(invalid(path, cidrs, 'may specify no more than one CIDR for each IP family'));
  }
  const seen = new Set<string>();
  for (const [i, cidr] of cidrs.entries()) {
    if (seen.has(cidr)) errors.push(duplicate(`${path}[${i}]`, cidr));
    seen.add(cidr);
  }
}

/** What a node got once stays. */
export function validateNodeUpdate(node: Node, old: Node): Errors {
  const errors: Errors = [];
  const now = node.spec ?? {};
  const before = old.spec ?? {};
  const stored = before.podCIDRs ?? [];
  if (stored.length > 0 && stored.join() !== (now.podCIDRs ?? []).join()) {
    errors.push(forbidden('spec.podCIDRs', FIXED_CIDR));
  }
  if (before.providerID && before.providerID !== now.providerID) {
    errors.push(forbidden('spec.providerID', FIXED_PROVIDER));
  }
  return errors;
}

export function validateNodeStatus(object: KubeObject): Errors {
  const node = object as unknown as Node;
  const errors = validateNode(node);
  const seen = new Set<string>();
  for (const [i, entry] of (node.status?.addresses ?? []).entries()) {
    const key = `${entry.type}/${entry.address}`;
    if (seen.has(key))
      errors.push(duplicate(`status.addresses[${i}]`, internalForm('NodeAddress', entry)));
    seen.add(key);
  }
  return errors;
}
