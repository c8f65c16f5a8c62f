import { type FieldError, invalid } from '#api/field-error.ts';

/** How strict a namespace is with pods. Source: Kubernetes "Pod Security Standards". */
export type Level = 'privileged' | 'baseline' | 'restricted';

/** A level as of a Kubernetes version; `minor` Infinity is latest. */
export type LevelVersion = { level: Level; minor: number };

export type Policy = { enforce: LevelVersion; audit: LevelVersion; warn: LevelVersion };

const LEVELS: readonly string[] = ['privileged', 'baseline', 'restricted'];
const PREFIX = 'pod-security.kubernetes.io/';
const MODES = ['enforce', 'audit', 'warn'] as const;

type Labels = Readonly<Record<string, string>>;

/** The policy that a namespace's labels ask for; unreadable ones count as absent. */
export function policyOf(labels: Labels = {}): Policy {
  const read = (mode: string): LevelVersion => {
    const level = labels[PREFIX + mode];
    const minor = minorOf(labels[`${PREFIX}${mode}-version`] ?? 'latest') ?? Infinity;
    return { level: level && LEVELS.includes(level) ? (level as Level) : 'privileged', minor };
  };
  return { enforce: read('enforce'), audit: read('audit'), warn: read('warn') };
}

/** `latest` or `v1.N`. */
function minorOf(version: string): number | undefined {
  if (version === 'latest') return Infinity;
  const match = /^v1\.(0|[1-9]\d{0,3})$/.exec(version);
  return match ? Number(match[1]) : undefined;
}

export function validatePolicyLabels(labels: Labels = {}): FieldError[] {
  const errors: FieldError[] = [];
  for (const mode of MODES) {
    const level = labels[PREFIX + mode];
    if (level !== undefined && !LEVELS.includes(level)) {
      const why = `must be one of ${LEVELS.join(', ')}`;
      errors.push(invalid(`metadata.labels[${PREFIX}${mode}]`, level, why));
    }
    const version = labels[`${PREFIX}${mode}-version`];
    if (version !== undefined && minorOf(version) === undefined) {
      const path = `metadata.labels[${PREFIX}${mode}-version]`;
      errors.push(invalid(path, version, 'must be "latest" or "v1.x"'));
    }
  }
  return errors;
}

/** `restricted:latest`. */
export const levelText = ({ level, minor }: LevelVersion): string =>
  `${level}:${minor === Infinity ? 'latest' : `v1.${minor}`}`;

export const isStricter = (a: LevelVersion, b: LevelVersion): boolean =>
  LEVELS.indexOf(a.level) > LEVELS.indexOf(b.level);
