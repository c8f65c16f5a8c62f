/**
 * The part of an nftables table that changes as Services and policies do, as a value: what is written is
 * always the difference between two of these. The fixed part stands in `service-table.ts`.
 */
export type Ruleset = {
  /** Regular chains: name → rules, in order. */
  chains: Map<string, readonly string[]>;
  /** Elements of the table's maps and sets: name → key → verdict or data ('' in a set). */
  elements: Map<string, Map<string, string>>;
  /**
   * Sets that come and go, filled by rules or as `elements`: name → declaration without name and
   * braces. Another declaration needs another name.
   */
  sets: Map<string, string>;
  /** Not written: where UDP goes, `address port` (address '' for node ports) → target addresses. */
  datagrams: Map<string, readonly string[]>;
};

export type TableName = {
  family: 'ip' | 'ip6';
  name: string;
};

export function emptyRuleset(): Ruleset {
  return { chains: new Map(), elements: new Map(), sets: new Map(), datagrams: new Map() };
}

/** One ruleset of two that have no name in common. */
export function joinRulesets(a: Ruleset, b: Ruleset): Ruleset {
  return {
    chains: new Map([...a.chains, ...b.chains]),
    elements: new Map([...a.elements, ...b.elements]),
    sets: new Map([...a.sets, ...b.sets]),
    datagrams: new Map([...a.datagrams, ...b.datagrams]),
  };
}

/** Elements per command: nft's own parser slows down on very long lines. */
const ELEMENTS_PER_COMMAND = 500;

/**
 * Commands that turn a table holding `from` into one holding `to`, for one atomic `nft -f`; empty
 * when nothing differs. Only what changed is named: rules of other chains and the contents of
 * dynamic sets stay untouched.
 */
export function rulesetChanges(table: TableName, from: Ruleset, to: Ruleset): string[] {
  const where = `${table.family} ${table.name}`;
  const commands: string[] = [];
  for (const [name, declaration] of to.sets) {
    if (!from.sets.has(name)) commands.push(`add set ${where} ${name} { ${declaration} }`);
  }
  const changed = [...to.chains].filter(
    ([name, rules]) => !sameRules(from.chains.get(name), rules),
  );
  for (const [name] of changed) {
    // A rule may go to a chain that is declared only later, so all are declared before any rule.
    commands.push(`${from.chains.has(name) ? 'flush' : 'add'} chain ${where} ${name}`);
  }
  for (const [name, rules] of changed)
    for (const rule of rules) commands.push(`add rule ${where} ${name} ${rule}`);
  commands.push(...elementChanges(where, from, to));
  const gone = [...from.chains.keys()].filter((name) => !to.chains.has(name));
  for (const name of gone) commands.push(`flush chain ${where} ${name}`);
  for (const name of gone) commands.push(`delete chain ${where} ${name}`);
  for (const name of from.sets.keys())
    if (!to.sets.has(name)) commands.push(`delete set ${where} ${name}`);
  return commands;
}

/** Commands that replace whatever the table holds, in one step that no packet falls between. */
export function wholeTable(table: TableName, skeleton: string, rules: Ruleset): string[] {
  const where = `${table.family} ${table.name}`;
  return [
    `add table ${where}`,
    `delete table ${where}`,
    `table ${where} {\n${skeleton}\n}`,
    ...rulesetChanges(table, emptyRuleset(), rules),
  ];
}

function sameRules(a: readonly string[] | undefined, b: readonly string[]): boolean {
  if (a === b) return true;
  return a !== undefined && a.length === b.length && a.every((rule, i) => rule === b[i]);
}

function elementChanges(where: string, from: Ruleset, to: Ruleset): string[] {
  const commands: string[] = [];
  const none = new Map<string, string>();
  for (const name of new Set([...from.elements.keys(), ...to.elements.keys()])) {
    const before = from.elements.get(name) ?? none;
    const after = to.elements.get(name) ?? none;
    // The elements of a set that goes away go with it.
    const dropped = from.sets.has(name) && !to.sets.has(name);
    const gone = dropped ? [] : [...before].filter(([key, value]) => after.get(key) !== value);
    const come = [...after].filter(([key, value]) => before.get(key) !== value);
    commands.push(...elementCommands(`delete element ${where} ${name}`, gone));
    commands.push(...elementCommands(`add element ${where} ${name}`, come));
  }
  return commands;
}

function elementCommands(command: string, elements: readonly [string, string][]): string[] {
  const commands: string[] = [];
  for (let i = 0; i < elements.length; i += ELEMENTS_PER_COMMAND) {
    const part = elements.slice(i, i + ELEMENTS_PER_COMMAND);
    const texts = part.map(([key, value]) => (value === '' ? key : `${key} : ${value}`));
    commands.push(`${command} { ${texts.join(', ')} }`);
  }
  return commands;
}
