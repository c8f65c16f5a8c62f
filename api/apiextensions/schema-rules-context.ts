import { selfType } from '#api/apiextensions/custom-programs.ts';
import type { SchemaProps } from '#api/apiextensions/definition-types.ts';
import type { CelType } from '#api/cel/types.ts';
import type { FieldError } from '#api/field-error.ts';
import { forbidden } from '#api/field-error.ts';

/** All rules of a schema together may be estimated at this much. Source: upstream. */
const TOTAL_LIMIT = 100_000_000;
/** How many of the dearest rules are named when the total is too high. */
const MAX_NAMED = 4;

type Total = { cost: number; dearest: { path: string; cost: number }[] };

/** What the static checks of rules know of a place in a schema: how often it can be there. */
export class RuleContext {
  readonly #schema: SchemaProps;
  readonly #isResource: boolean;
  readonly #total: Total;
  /** Most values that an object can have here; undefined = nothing bounds them. */
  readonly cardinality: number | undefined;

  constructor(
    schema: SchemaProps,
    above?: { cardinality: number | undefined; total: Total; isResource: boolean },
  ) {
    this.#schema = schema;
    this.#isResource = above?.isResource ?? true;
    this.#total = above?.total ?? { cost: 0, dearest: [] };
    this.cardinality = above ? above.cardinality : 1;
  }

  property(_name: string, schema: SchemaProps): RuleContext {
    return this.#inside(schema);
  }

  item(schema: SchemaProps): RuleContext {
    return this.#inside(schema);
  }

  value(schema: SchemaProps): RuleContext {
    return this.#inside(schema);
  }

  /** What `self` is here; null where expressions see nothing. */
  self(): CelType | null {
    return selfType(this.#schema, this.#isResource);
  }

  /** Counts a rule in. */
  observe(path: string, cost: number): void {
    this.#total.cost += cost;
    if (cost < TOTAL_LIMIT / 100) return;
    this.#total.dearest.push({ path, cost });
    this.#total.dearest.sort((a, b) => b.cost - a.cost);
    this.#total.dearest.splice(MAX_NAMED);
  }

  totalErrors(path: string): FieldError[] {
    const { cost, dearest } = this.#total;
    if (cost <= TOTAL_LIMIT) return [];
    const name = 'x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema';
    return [
      ...dearest.map((one) =>
        forbidden(
          one.path,
          'contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema',
        ),
      ),
      forbidden(path, costText(name, cost, TOTAL_LIMIT)),
    ];
  }

  #inside(schema: SchemaProps): RuleContext {
    const factor = factorOf(this.#schema);
    const { cardinality } = this;
    return new RuleContext(schema, {
      cardinality:
        cardinality === undefined || factor === undefined ? undefined : cardinality * factor,
      total: this.#total,
      isResource: schema['x-kubernetes-embedded-resource'] === true,
    });
  }
}

/** How often what is inside a schema can be there for one value of it. */
function factorOf(schema: SchemaProps): number | undefined {
  if (schema.type === 'array') return limit(schema.maxItems);
  if (schema.type === 'object' && schema.additionalProperties !== undefined) {
    return limit(schema.maxProperties);
  }
  return 1;
}

const limit = (most: number | undefined): number | undefined =>
  most === undefined ? undefined : Math.max(0, most);

/** Source: upstream's wording of what costs too much. */
export function costText(name: string, cost: number, allowed: number): string {
  const times = cost / allowed;
  const factor =
    times > 100 ? 'more than 100x' : times < 1.5 ? `${times.toFixed(6)}x` : `${times.toFixed(1)}x`;
  return `${name} exceeds budget by factor of ${factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)`;
}
