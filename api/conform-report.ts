/** One finding; it grows its path while the walk returns, so that good objects cost nothing. */
type Finding = {
  /** For unknown fields: nothing. For mismatches: what stands before the place. */
  mismatch: string;
  /** What follows the place: ` of type int32`. */
  type: string;
  /** True when the message names no place (quantities, times, base64). */
  bare: boolean;
  /** `spec.containers[0].name` */
  path: string;
  /** The same without indexes and map keys, as upstream's decoder names it. */
  fields: string;
  /** Short name of the type that has the field. */
  owner: string;
};

/** Collects findings during one walk over one object. */
export class Report {
  readonly normalize: boolean;
  readonly prune: boolean;
  /** Grows with every finding; parents compare it to know whether to add their part of the path. */
  count = 0;
  readonly #findings: Finding[] = [];

  readonly #restores: boolean;

  /** `restores`: values come out of a strategic patch, whose reader has words of its own. */
  constructor(normalize: boolean, prune: boolean, restores = false) {
    this.#restores = restores;
    this.normalize = normalize;
    this.prune = prune;
  }

  unknownField(name: string): void {
    this.#add({ mismatch: '', type: '', bare: false, path: name, fields: '', owner: '' });
  }

  /** `value` cannot be `type`, a type as upstream's decoder prints it. */
  mismatch(value: unknown, type: string): void {
    if (this.#restores) return this.refuse(unrestorable(value, type));
    const isWholeNumberWanted = type === 'int32' || type === 'int64';
    const found = isNumber(value) && isWholeNumberWanted ? `number ${value}` : describe(value);
    this.#add({
      mismatch: `json: cannot unmarshal ${found} into Go `,
      type,
      bare: false,
      path: '',
      fields: '',
      owner: '',
    });
  }

  /** A value whose own decoder refused it with this text. */
  refuse(message: string): void {
    this.#add({ mismatch: message, type: '', bare: true, path: '', fields: '', owner: '' });
  }

  #add(finding: Finding): void {
    this.#findings.push(finding);
    this.count++;
  }

  /** Puts a field's name before the path of everything found since `from`. */
  inField(from: number, name: string, owner: string): void {
    for (let i = from; i < this.#findings.length; i++) {
      const finding = this.#findings[i];
      if (!finding) continue;
      finding.path = join(name, finding.path);
      finding.fields = join(name, finding.fields);
      if (finding.owner === '') finding.owner = owner;
    }
  }

  /** The same for a map's key or, in brackets, a list's index. */
  inItem(from: number, key: string): void {
    for (let i = from; i < this.#findings.length; i++) {
      const finding = this.#findings[i];
      if (finding) finding.path = join(key, finding.path);
    }
  }

  result(): { unknown: string[]; typeErrors: string[] } {
    const unknown: string[] = [];
    const typeErrors: string[] = [];
    for (const finding of this.#findings) {
      if (finding.mismatch === '') unknown.push(`unknown field "${finding.path}"`);
      else if (finding.bare) typeErrors.push(finding.mismatch);
      else typeErrors.push(`${finding.mismatch}${placeOf(finding)} of type ${finding.type}`);
    }
    return { unknown, typeErrors };
  }
}

/** Source: apimachinery runtime.DefaultUnstructuredConverter. */
function unrestorable(value: unknown, type: string): string {
  const kind = goKind(value);
  if (type.startsWith('[]')) return `cannot restore slice from ${kind}`;
  if (type.startsWith('map[')) return `cannot restore map from ${kind}`;
  if (type.includes('.')) return `cannot restore struct from: ${kind}`;
  return `unrecognized type: ${type}`;
}

function goKind(value: unknown): string {
  if (Array.isArray(value)) return 'slice';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'number') return Number.isInteger(value) ? 'int64' : 'float64';
  if (typeof value === 'bigint') return 'int64';
  return typeof value === 'object' ? 'map' : typeof value;
}

const join = (before: string, after: string): string =>
  after === '' ? before : after.startsWith('[') ? before + after : `${before}.${after}`;

const placeOf = ({ owner, fields }: Finding): string =>
  fields === '' ? 'value' : `struct field ${owner}.${fields}`;

function describe(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  if (value === null) return 'null';
  if (isNumber(value)) return 'number';
  return typeof value === 'boolean' ? 'bool' : typeof value;
}

const isNumber = (value: unknown): value is number | bigint =>
  typeof value === 'number' || typeof value === 'bigint';
