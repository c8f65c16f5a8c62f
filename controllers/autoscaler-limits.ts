import type { HorizontalPodAutoscaler } from '#api/types.ts';

/** How fast, and how steadily, an autoscaler may move. Pure. */

type Behavior = NonNullable<NonNullable<HorizontalPodAutoscaler['spec']>['behavior']>;
type Rules = NonNullable<Behavior['scaleUp']>;

/** What happened lately, newest last. */
export type ScaleHistory = {
  recommendations: readonly { atMs: number; replicas: number }[];
  ups: readonly { atMs: number; change: number }[];
  downs: readonly { atMs: number; change: number }[];
};

export const emptyHistory: ScaleHistory = { recommendations: [], ups: [], downs: [] };

export type Reason = { reason: string; message: string };

export type Limited = {
  replicas: number;
  stabilized: Reason | undefined;
  limited: Reason | undefined;
};

/** Source: --horizontal-pod-autoscaler-downscale-stabilization. */
const DOWN_WINDOW_S = 300;
/** Longest window and policy period that the API allows; older history is forgotten. */
const MAX_WINDOW_MS = 3_600_000;
const DEFAULT_UP: Rules = {
  stabilizationWindowSeconds: 0,
  selectPolicy: 'Max',
  policies: [
    { type: 'Pods', value: 4, periodSeconds: 15 },
    { type: 'Percent', value: 100, periodSeconds: 15 },
  ],
};
const DEFAULT_DOWN: Rules = {
  stabilizationWindowSeconds: DOWN_WINDOW_S,
  selectPolicy: 'Max',
  policies: [{ type: 'Percent', value: 100, periodSeconds: 15 }],
};

export type LimitInput = {
  current: number;
  desired: number;
  min: number;
  max: number;
  behavior: Behavior | undefined;
  history: ScaleHistory;
  now: number;
};

/** Smooths and bounds a desired number. Source: "Configurable scaling behavior". */
export function limitReplicas(input: LimitInput): Limited {
  const { behavior, desired } = input;
  const up = { ...DEFAULT_UP, ...behavior?.scaleUp };
  const down = { ...DEFAULT_DOWN, ...behavior?.scaleDown };
  const steady = stabilize(input, up, down);
  const stabilized = steady === desired ? undefined : stabilizedReason(input);
  const bounds = behavior ? boundByRules(input, up, down) : boundByDefault(input);
  const [lowest, highest] = bounds;
  if (steady > highest.replicas) {
    return { replicas: highest.replicas, stabilized, limited: highest };
  }
  if (steady < lowest.replicas) return { replicas: lowest.replicas, stabilized, limited: lowest };
  return { replicas: steady, stabilized, limited: undefined };
}

function stabilize({ current, desired, history, now }: LimitInput, up: Rules, down: Rules): number {
  let least = desired;
  let most = desired;
  const upFrom = now - (up.stabilizationWindowSeconds ?? 0) * 1000;
  const downFrom = now - (down.stabilizationWindowSeconds ?? DOWN_WINDOW_S) * 1000;
  for (const { atMs, replicas } of history.recommendations) {
    if (atMs > upFrom) least = Math.min(least, replicas);
    if (atMs > downFrom) most = Math.max(most, replicas);
  }
  return Math.min(Math.max(current, least), most);
}

function stabilizedReason({ desired, current }: LimitInput): Reason {
  return desired >= current
    ? {
        reason: 'ScaleUpStabilized',
        message:
          'recent recommendations were lower than current one, applying the lowest recent recommendation',
      }
    : {
        reason: 'ScaleDownStabilized',
        message:
          'recent recommendations were higher than current one, applying the highest recent recommendation',
      };
}

type Bound = Reason & { replicas: number };

const tooMany = (replicas: number): Bound => ({
  replicas,
  reason: 'TooManyReplicas',
  message: 'the desired replica count is more than the maximum replica count',
});
const tooFew = (replicas: number): Bound => ({
  replicas,
  reason: 'TooFewReplicas',
  message: 'the desired replica count is less than the minimum replica count',
});
const tooFast = (replicas: number, way: 'Up' | 'Down'): Bound => ({
  replicas,
  reason: `Scale${way}Limit`,
  message: `the desired replica count is ${way === 'Up' ? 'increasing' : 'decreasing'} faster than the maximum scale rate`,
});

/** Without a behavior: at most double, but 4 at least. */
function boundByDefault({ current, min, max }: LimitInput): [Bound, Bound] {
  const limit = Math.max(2 * current, 4);
  return [tooFew(min), limit < max ? tooFast(limit, 'Up') : tooMany(max)];
}

function boundByRules(input: LimitInput, up: Rules, down: Rules): [Bound, Bound] {
  const { current, min, max } = input;
  const upLimit = Math.max(current, ruleLimit(input, up, 'up'));
  const downLimit = Math.min(current, ruleLimit(input, down, 'down'));
  return [
    min < downLimit ? tooFast(downLimit, 'Down') : tooFew(min),
    max > upLimit ? tooFast(upLimit, 'Up') : tooMany(max),
  ];
}

function ruleLimit(
  { current, history, now }: LimitInput,
  rules: Rules,
  way: 'up' | 'down',
): number {
  const { selectPolicy = 'Max', policies = [] } = rules;
  if (selectPolicy === 'Disabled') return current;
  const proposals = policies.map(({ type, value, periodSeconds }) => {
    const since = now - periodSeconds * 1000;
    const start = current - changeSince(history.ups, since) + changeSince(history.downs, since);
    const sign = way === 'up' ? 1 : -1;
    if (type === 'Pods') return start + sign * value;
    const exact = start * (1 + (sign * value) / 100);
    return way === 'up' ? Math.ceil(exact) : Math.trunc(exact);
  });
  const widest = way === 'up' ? Math.max(...proposals) : Math.min(...proposals);
  const narrowest = way === 'up' ? Math.min(...proposals) : Math.max(...proposals);
  return selectPolicy === 'Min' ? narrowest : widest;
}

function changeSince(events: ScaleHistory['ups'], since: number): number {
  return events.reduce((sum, { atMs, change }) => (atMs > since ? sum + change : sum), 0);
}

/** The first thing remembered of a target is its size, so that a restart does not shrink it. */
export function recordFirst(history: ScaleHistory, now: number, replicas: number): ScaleHistory {
  if (history.recommendations.length > 0) return history;
  return { ...history, recommendations: [{ atMs: now, replicas }] };
}

export function recordRecommendation(
  history: ScaleHistory,
  now: number,
  replicas: number,
): ScaleHistory {
  const kept = history.recommendations.filter(({ atMs }) => atMs > now - MAX_WINDOW_MS);
  return { ...history, recommendations: [...kept, { atMs: now, replicas }] };
}

export function recordScaling(history: ScaleHistory, now: number, change: number): ScaleHistory {
  const add = (events: ScaleHistory['ups'], amount: number): ScaleHistory['ups'] => {
    const kept = events.filter(({ atMs }) => atMs > now - MAX_WINDOW_MS);
    return amount > 0 ? [...kept, { atMs: now, change: amount }] : kept;
  };
  return { ...history, ups: add(history.ups, change), downs: add(history.downs, -change) };
}
