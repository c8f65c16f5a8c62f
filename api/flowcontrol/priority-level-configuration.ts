import { forbidden, invalid, notSupported, required } from '#api/field-error.ts';
import { checkConditions } from '#api/flowcontrol/flow-schema-validate.ts';
import { flowcontrolRules } from '#api/flowcontrol/flowcontrol-rules.ts';
import { mandatoryPriorityLevels } from '#api/flowcontrol/mandatory.ts';
import { internalForm } from '#api/internal-form.ts';
import { defineKind } from '#api/kind.ts';
import { AGE, NONE } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { ownedStatus } from '#api/meta/status-part.ts';
import type { PriorityLevelConfiguration } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkRange, sameMeaning } from '#api/validate.ts';

const DEFAULT_SHARES = 30;
const DEFAULT_QUEUING = { handSize: 8, queues: 64, queueLengthLimit: 50 } as const;
const MAX_QUEUES = 10_000_000;
/** A flow's hash has this many bits to choose its hand of queues with. */
const HASH_BITS = 60;
const PERCENT = [0, 100] as const;

type Limited = NonNullable<NonNullable<PriorityLevelConfiguration['spec']>['limited']>;
type Queuing = NonNullable<NonNullable<Limited['limitResponse']>['queuing']>;

const queuingOf = (object: PriorityLevelConfiguration): Queuing | undefined =>
  object.spec?.limited?.limitResponse?.queuing;

/** A number, or `<none>` where there is none. */
const count = (
  name: string,
  describedBy: string,
  value: (object: PriorityLevelConfiguration) => number | undefined,
) => ({
  name,
  type: 'string' as const,
  describedBy,
  value: (object: PriorityLevelConfiguration) => value(object) ?? NONE,
});

/** How many requests of a kind are worked on at once. Source: flowcontrol.apiserver.k8s.io/v1. */
export const priorityLevelConfiguration = defineKind<PriorityLevelConfiguration>({
  group: 'flowcontrol.apiserver.k8s.io',
  version: 'v1',
  kind: 'PriorityLevelConfiguration',
  plural: 'prioritylevelconfigurations',
  singular: 'prioritylevelconfiguration',
  scope: 'Cluster',
  schema: 'V1PriorityLevelConfiguration',
  fieldRules: [flowcontrolRules, metaRules],
  generation: 'spec',
  subresources: {
    status: {
      type: 'status',
      validateUpdate: (object) => {
        const errors: Errors = [];
        checkConditions(errors, object);
        return errors;
      },
    },
  },
  ageColumn: false,
  columns: [
    {
      name: 'Type',
      type: 'string',
      describedBy: 'V1PriorityLevelConfigurationSpec.type',
      value: (object) => object.spec?.type ?? '',
    },
    count(
      'NominalConcurrencyShares',
      'V1LimitedPriorityLevelConfiguration.nominalConcurrencyShares',
      (object) => object.spec?.limited?.nominalConcurrencyShares,
    ),
    count('Queues', 'V1QueuingConfiguration.queues', (object) => queuingOf(object)?.queues),
    count('HandSize', 'V1QueuingConfiguration.handSize', (object) => queuingOf(object)?.handSize),
    count(
      'QueueLengthLimit',
      'V1QueuingConfiguration.queueLengthLimit',
      (object) => queuingOf(object)?.queueLengthLimit,
    ),
    AGE,
  ],
  ...ownedStatus(),

  defaults(object) {
    const spec = (object.spec ??= { type: '' });
    object.status ??= {};
    if (object.metadata.name === 'exempt') spec.exempt ??= {};
    if (spec.exempt) {
      spec.exempt.nominalConcurrencyShares ??= 0;
      spec.exempt.lendablePercent ??= 0;
    }
    const { limited } = spec;
    if (!limited) return;
    limited.nominalConcurrencyShares ??= DEFAULT_SHARES;
    limited.lendablePercent ??= 0;
    const queuing = limited.limitResponse?.queuing;
    if (!queuing) return;
    for (const field of ['handSize', 'queues', 'queueLengthLimit'] as const) {
      queuing[field] ||= DEFAULT_QUEUING[field];
    }
  },
  validate(object) {
    const errors: Errors = [];
    checkSpec(errors, object);
    checkMandatory(errors, object);
    checkConditions(errors, object);
    return errors;
  },
});

function checkSpec(errors: Errors, { metadata, spec }: PriorityLevelConfiguration): void {
  const type = spec?.type ?? '';
  if ((metadata.name === 'exempt') !== (type === 'Exempt')) {
    const rule = "must be 'Exempt' if and only if `name` is 'exempt'";
    errors.push(invalid('spec.type', type, rule));
  }
  if (type === 'Exempt') {
    if (spec?.limited) {
      errors.push(forbidden('spec.limited', 'must be nil if the type is not Limited'));
    }
    const { nominalConcurrencyShares, lendablePercent } = spec?.exempt ?? {};
    checkShares(errors, 'spec.exempt', nominalConcurrencyShares);
    checkLendable(errors, 'spec.exempt', lendablePercent);
  } else if (type === 'Limited') {
    if (spec?.exempt) {
      errors.push(forbidden('spec.exempt', 'must be nil if the type is not Exempt'));
    }
    if (spec?.limited) checkLimited(errors, 'spec.limited', spec.limited);
    else errors.push(required('spec.limited', 'must not be empty when type is Limited'));
  } else errors.push(notSupported('spec.type', type, ['Exempt', 'Limited']));
}

function checkShares(errors: Errors, path: string, shares: number | undefined): void {
  if (shares === undefined || shares >= 0) return;
  const at = `${path}.nominalConcurrencyShares`;
  errors.push(invalid(at, shares, 'must be a non-negative integer'));
}

function checkLendable(errors: Errors, path: string, percent: number | undefined): void {
  if (percent !== undefined) checkRange(errors, `${path}.lendablePercent`, percent, PERCENT);
}

function checkLimited(errors: Errors, path: string, limited: Limited): void {
  checkShares(errors, path, limited.nominalConcurrencyShares);
  const at = `${path}.limitResponse`;
  const { type = '', queuing } = limited.limitResponse ?? {};
  if (type === 'Reject') {
    const rule = 'must be nil if limited.limitResponse.type is not Limited';
    if (queuing) errors.push(forbidden(`${at}.queuing`, rule));
  } else if (type === 'Queue') {
    const rule = 'must not be empty if limited.limitResponse.type is Limited';
    if (queuing) checkQueuing(errors, `${at}.queuing`, queuing);
    else errors.push(required(`${at}.queuing`, rule));
  } else errors.push(notSupported(`${at}.type`, type, ['Queue', 'Reject']));
  checkLendable(errors, path, limited.lendablePercent);
  const borrowing = limited.borrowingLimitPercent ?? 0;
  if (borrowing < 0) {
    const rule = 'if specified, must be a non-negative integer';
    errors.push(invalid(`${path}.borrowingLimitPercent`, borrowing, rule));
  }
}

function checkQueuing(errors: Errors, path: string, queuing: Queuing): void {
  const { queueLengthLimit = 0, queues = 0, handSize = 0 } = queuing;
  const positive = 'must be positive';
  if (queueLengthLimit <= 0) {
    errors.push(invalid(`${path}.queueLengthLimit`, queueLengthLimit, positive));
  }
  if (queues <= 0) errors.push(invalid(`${path}.queues`, queues, positive));
  else if (queues > MAX_QUEUES) {
    errors.push(invalid(`${path}.queues`, queues, `must not be greater than ${MAX_QUEUES}`));
  }
  const at = `${path}.handSize`;
  if (handSize <= 0) errors.push(invalid(at, handSize, positive));
  else if (handSize > queues) {
    errors.push(invalid(at, handSize, `should not be greater than queues (${queues})`));
  } else {
    const bits = Math.ceil(Math.log2(queues) * handSize);
    const rule = `required entropy bits of deckSize ${queues} and handSize ${handSize} should not be greater than ${HASH_BITS}`;
    if (bits > HASH_BITS) errors.push(invalid(at, handSize, rule));
  }
}

/** The exempt level may lend and reserve what it likes; nothing else of the mandatory ones moves. */
function checkMandatory(errors: Errors, { metadata, spec }: PriorityLevelConfiguration): void {
  const fixed = mandatoryPriorityLevels.find((one) => one.metadata.name === metadata.name);
  if (!fixed) return;
  const { exempt: _, ...rest } = spec ?? {};
  const { exempt: __, ...wanted } = fixed.spec ?? {};
  if (sameMeaning(rest, wanted)) return;
  errors.push(
    invalid(
      'spec',
      internalForm('PriorityLevelSpec', spec),
      `spec of '${metadata.name}' must equal the fixed value`,
    ),
  );
}
