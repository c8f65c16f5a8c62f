import { duplicate, forbidden, invalid, notSupported, required } from '#api/field-error.ts';
import type { LabelSelector, PodSpec, Toleration } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkEnum, checkQualifiedName, POSITIVE } from '#api/validate.ts';
import { checkLabelSelector, checkSelectorValues } from '#api/validate-labels.ts';
import { isDns1123Label, isLabelValue, nameIsDnsSubdomain } from '#api/validate-names.ts';

type Affinity = NonNullable<PodSpec['affinity']>;
type NodeSelector = NonNullable<
  NonNullable<Affinity['nodeAffinity']>['requiredDuringSchedulingIgnoredDuringExecution']
>;
type NodeTerm = NodeSelector['nodeSelectorTerms'][number];
type NodeRequirement = NonNullable<NodeTerm['matchExpressions']>[number];
type PodRules = NonNullable<Affinity['podAffinity']>;
type PodTerm = NonNullable<PodRules['requiredDuringSchedulingIgnoredDuringExecution']>[number];
type Spread = NonNullable<PodSpec['topologySpreadConstraints']>[number];

const REQUIRED = 'requiredDuringSchedulingIgnoredDuringExecution';
const PREFERRED = 'preferredDuringSchedulingIgnoredDuringExecution';
const BAD_OPERATOR = 'not a valid selector operator';
const WEIGHT = 'must be in the range 1-100';
export const EFFECTS = ['NoSchedule', 'PreferNoSchedule', 'NoExecute'];

/** Source: core/v1 Affinity. */
export function checkAffinity(errors: Errors, path: string, affinity: Affinity): void {
  const { nodeAffinity, podAffinity, podAntiAffinity } = affinity;
  if (nodeAffinity) {
    const must = nodeAffinity[REQUIRED];
    if (must) checkNodeSelector(errors, `${path}.nodeAffinity.${REQUIRED}`, must);
    for (const [i, term] of (nodeAffinity[PREFERRED] ?? []).entries()) {
      const at = `${path}.nodeAffinity.${PREFERRED}[${i}]`;
      checkWeight(errors, at, term.weight);
      if (term.preference) checkNodeTerm(errors, `${at}.preference`, term.preference, false);
    }
  }
  if (podAffinity) checkPodRules(errors, `${path}.podAffinity`, podAffinity);
  if (podAntiAffinity) checkPodRules(errors, `${path}.podAntiAffinity`, podAntiAffinity);
}

function checkWeight(errors: Errors, at: string, weight: number | undefined): void {
  const value = weight ?? 0;
  if (value < 1 || value > 100) errors.push(invalid(`${at}.weight`, value, WEIGHT));
}

/** Source: core/v1 NodeSelector. */
export function checkNodeSelector(errors: Errors, path: string, selector: NodeSelector): void {
  const terms = selector.nodeSelectorTerms ?? [];
  if (terms.length === 0) {
    errors.push(required(`${path}.nodeSelectorTerms`, 'must have at least one node selector term'));
  }
  for (const [i, term] of terms.entries()) {
    checkNodeTerm(errors, `${path}.nodeSelectorTerms[${i}]`, term, true);
  }
}

/** `checkValues`: preferences may name values that no label can have. */
function checkNodeTerm(errors: Errors, path: string, term: NodeTerm, checkValues: boolean): void {
  for (const [i, requirement] of (term.matchExpressions ?? []).entries()) {
    checkNodeRequirement(errors, `${path}.matchExpressions[${i}]`, requirement, checkValues);
  }
  for (const [i, requirement] of (term.matchFields ?? []).entries()) {
    checkNodeField(errors, `${path}.matchFields[${i}]`, requirement);
  }
}

function checkNodeRequirement(
  errors: Errors,
  path: string,
  { key, operator, values = [] }: NodeRequirement,
  checkValues: boolean,
): void {
  if (operator === 'Gt' || operator === 'Lt') {
    if (values.length !== 1) {
      errors.push(
        required(
          `${path}.values`,
          "must be specified single value when `operator` is 'Lt' or 'Gt'",
        ),
      );
    }
  } else if (!checkSelectorValues(errors, path, operator, values)) {
    errors.push(invalid(`${path}.operator`, operator ?? '', BAD_OPERATOR));
  }
  checkQualifiedName(errors, `${path}.key`, key ?? '');
  if (!checkValues) return;
  for (const [i, value] of values.entries()) {
    addInvalid(errors, `${path}.values[${i}]`, value, isLabelValue(value));
  }
}

function checkNodeField(
  errors: Errors,
  path: string,
  { key, operator, values = [] }: NodeRequirement,
): void {
  if (operator !== 'In' && operator !== 'NotIn') {
    errors.push(invalid(`${path}.operator`, operator ?? '', BAD_OPERATOR));
  } else if (values.length !== 1) {
    errors.push(
      required(
        `${path}.values`,
        "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
      ),
    );
  }
  if (key !== 'metadata.name') {
    errors.push(invalid(`${path}.key`, key ?? '', 'not a valid field selector key'));
    return;
  }
  for (const [i, value] of values.entries()) {
    addInvalid(errors, `${path}.values[${i}]`, value, nameIsDnsSubdomain(value, false));
  }
}

function checkPodRules(errors: Errors, path: string, rules: PodRules): void {
  for (const [i, term] of (rules[REQUIRED] ?? []).entries()) {
    checkPodTerm(errors, `${path}.${REQUIRED}[${i}]`, term);
  }
  for (const [i, term] of (rules[PREFERRED] ?? []).entries()) {
    const at = `${path}.${PREFERRED}[${i}]`;
    checkWeight(errors, at, term.weight);
    checkPodTerm(errors, `${at}.podAffinityTerm`, term.podAffinityTerm ?? { topologyKey: '' });
  }
}

function checkPodTerm(errors: Errors, path: string, term: PodTerm): void {
  checkLabelSelector(errors, `${path}.labelSelector`, term.labelSelector);
  checkLabelSelector(errors, `${path}.namespaceSelector`, term.namespaceSelector);
  for (const name of term.namespaces ?? []) {
    addInvalid(errors, `${path}.namespace`, name, isDns1123Label(name));
  }
  checkTermKeys(errors, path, term);
  if (!term.topologyKey) errors.push(required(`${path}.topologyKey`, 'can not be empty'));
  checkQualifiedName(errors, `${path}.topologyKey`, term.topologyKey ?? '');
}

function checkTermKeys(errors: Errors, path: string, term: PodTerm): void {
  const { labelSelector, matchLabelKeys = [], mismatchLabelKeys = [] } = term;
  checkLabelKeys(errors, `${path}.matchLabelKeys`, matchLabelKeys, labelSelector);
  checkLabelKeys(errors, `${path}.mismatchLabelKeys`, mismatchLabelKeys, labelSelector);
  if (labelSelector) {
    // The keys' own requirements are in the selector already: only a second one is a mistake.
    const seen = new Set(Object.keys(labelSelector.matchLabels ?? {}));
    for (const { key } of labelSelector.matchExpressions ?? []) {
      const index = matchLabelKeys.indexOf(key);
      if (index >= 0 && seen.has(key)) {
        errors.push(
          invalid(`${path}[${index}]`, key, 'exists in both matchLabelKeys and labelSelector'),
        );
      }
      seen.add(key);
    }
  }
  for (const [i, key] of matchLabelKeys.entries()) {
    if (mismatchLabelKeys.includes(key)) {
      errors.push(
        invalid(
          `${path}.matchLabelKeys[${i}]`,
          key,
          'exists in both matchLabelKeys and mismatchLabelKeys',
        ),
      );
    }
  }
}

function checkLabelKeys(
  errors: Errors,
  path: string,
  keys: readonly string[],
  selector: LabelSelector | undefined,
): void {
  if (keys.length === 0) return;
  if (!selector) {
    errors.push(forbidden(path, 'must not be specified when labelSelector is not set'));
    return;
  }
  for (const [i, key] of keys.entries()) checkQualifiedName(errors, `${path}[${i}]`, key);
}

/** Source: core/v1 TopologySpreadConstraint. */
export function checkSpread(errors: Errors, path: string, constraints: readonly Spread[]): void {
  for (const [i, constraint] of constraints.entries()) {
    const at = `${path}[${i}]`;
    const { topologyKey, whenUnsatisfiable, minDomains } = constraint;
    const maxSkew = constraint.maxSkew ?? 0;
    if (maxSkew <= 0) errors.push(invalid(`${at}.maxSkew`, maxSkew, POSITIVE));
    if (!topologyKey) errors.push(required(`${at}.topologyKey`, 'can not be empty'));
    checkEnum(errors, `${at}.whenUnsatisfiable`, whenUnsatisfiable, [
      'DoNotSchedule',
      'ScheduleAnyway',
    ]);
    const repeated = constraints
      .slice(i + 1)
      .some(
        (other) =>
          other.topologyKey === topologyKey && other.whenUnsatisfiable === whenUnsatisfiable,
      );
    if (repeated) {
      const pair = `{${topologyKey}, ${whenUnsatisfiable}}`;
      errors.push(duplicate(`${at}.{topologyKey, whenUnsatisfiable}`, pair));
    }
    if (minDomains !== undefined) checkMinDomains(errors, at, constraint, minDomains);
    for (const field of ['nodeAffinityPolicy', 'nodeTaintsPolicy'] as const) {
      if (constraint[field] !== undefined) {
        checkEnum(errors, `${at}.${field}`, constraint[field], ['Honor', 'Ignore']);
      }
    }
    checkSpreadKeys(errors, at, constraint);
    checkLabelSelector(errors, `${at}.labelSelector`, constraint.labelSelector);
  }
}

function checkMinDomains(errors: Errors, at: string, constraint: Spread, minDomains: number): void {
  if (minDomains <= 0) errors.push(invalid(`${at}.minDomains`, minDomains, POSITIVE));
  if (constraint.whenUnsatisfiable !== 'DoNotSchedule') {
    errors.push(
      invalid(
        `${at}.minDomains`,
        minDomains,
        `can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ${constraint.whenUnsatisfiable}`,
      ),
    );
  }
}

function checkSpreadKeys(errors: Errors, at: string, constraint: Spread): void {
  const { labelSelector, matchLabelKeys = [] } = constraint;
  if (matchLabelKeys.length === 0) return;
  const path = `${at}.matchLabelKeys`;
  if (!labelSelector) {
    errors.push(forbidden(path, 'must not be specified when labelSelector is not set'));
    return;
  }
  const seen = new Set(Object.keys(labelSelector.matchLabels ?? {}));
  for (const { key } of labelSelector.matchExpressions ?? []) {
    if (seen.has(key) && matchLabelKeys.includes(key)) {
      const index = matchLabelKeys.indexOf(key);
      errors.push(
        invalid(`${path}[${index}]`, key, 'exists in both matchLabelKeys and labelSelector'),
      );
    }
    seen.add(key);
  }
  for (const [i, key] of matchLabelKeys.entries()) {
    checkQualifiedName(errors, `${path}[${i}]`, key);
  }
}

/** Source: core/v1 Toleration. */
export function checkTolerations(
  errors: Errors,
  path: string,
  tolerations: readonly Toleration[],
): void {
  for (const [i, toleration] of tolerations.entries()) {
    const at = `${path}[${i}]`;
    const { key = '', operator = '', value = '', effect = '', tolerationSeconds } = toleration;
    if (key) checkQualifiedName(errors, `${at}.key`, key);
    if (!key && operator !== 'Exists') {
      errors.push(
        invalid(
          `${at}.operator`,
          operator,
          'operator must be Exists when `key` is empty, which means "match all values and all keys"',
        ),
      );
    }
    if (tolerationSeconds !== undefined && effect !== 'NoExecute') {
      errors.push(
        invalid(
          `${at}.effect`,
          effect,
          "effect must be 'NoExecute' when `tolerationSeconds` is set",
        ),
      );
    }
    if (operator === '' || operator === 'Equal') {
      const problems = isLabelValue(value);
      if (problems.length > 0) {
        errors.push(invalid(`${at}.operator`, value, problems.join(';')));
      }
    } else if (operator === 'Exists') {
      if (value) {
        errors.push(
          invalid(`${at}.operator`, value, "value must be empty when `operator` is 'Exists'"),
        );
      }
    } else errors.push(notSupported(`${at}.operator`, operator, ['Equal', 'Exists']));
    if (effect) checkEnum(errors, `${at}.effect`, effect, EFFECTS);
  }
}
