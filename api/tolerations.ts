import type { Taint, Toleration } from '#api/types.ts';

type Repelling = Pick<Taint, 'key' | 'effect'> & { value?: string };

/** Does one of the tolerations match the taint? Source: core/v1 Toleration. */
export function tolerates(
  tolerations: readonly Toleration[] | undefined,
  taint: Repelling,
): boolean {
  return findToleration(tolerations, taint) !== undefined;
}

/** The first toleration that matches the taint. */
export function findToleration(
  tolerations: readonly Toleration[] | undefined,
  taint: Repelling,
): Toleration | undefined {
  return tolerations?.find((toleration) => {
    if (toleration.effect && toleration.effect !== taint.effect) return false;
    if (toleration.key && toleration.key !== taint.key) return false;
    switch (toleration.operator ?? 'Equal') {
      case 'Exists':
        return true;
      case 'Equal':
        return (toleration.key ?? '') !== '' && (toleration.value ?? '') === (taint.value ?? '');
      default:
        return false;
    }
  });
}
