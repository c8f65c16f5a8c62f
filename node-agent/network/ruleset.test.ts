import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Random, randomInt, seededRandom } from '#base/random.ts';
import { emptyRuleset, type Ruleset, rulesetChanges, wholeTable } from './ruleset.ts';

const table = { family: 'ip', name: 't' } as const;

/** What a table holds, as far as it changes; with the kernel's own rules about order. */
type Kernel = {
  chains: Map<string, string[]>;
  elements: Map<string, Map<string, string>>;
  sets: Set<string>;
};

/** Carries commands out as the kernel would, and fails where it would. */
function execute(kernel: Kernel, commands: readonly string[]): void {
  for (const command of commands) {
    const match = /^(\w+) (\w+) ip t (\S+) ?([^]*)$/.exec(command);
    assert.ok(match, `not understood: ${command}`);
    const [, verb, kind, name = '', rest = ''] = match;
    switch (`${verb} ${kind}`) {
      case 'add chain':
        assert.ok(!kernel.chains.has(name), `${name} is there already`);
        kernel.chains.set(name, []);
        break;
      case 'flush chain':
        assert.ok(kernel.chains.has(name));
        kernel.chains.set(name, []);
        break;
      case 'delete chain':
        assert.ok(!isReferred(kernel, name), `${name} is still in use`);
        assert.ok(kernel.chains.delete(name));
        break;
      case 'add rule':
        assert.ok(kernel.chains.has(name));
        for (const target of rest.match(/(?<=goto )\S+/g) ?? [])
          assert.ok(kernel.chains.has(target), `${target} is not there yet`);
        for (const set of rest.match(/(?<=@)\S+/g) ?? [])
          assert.ok(kernel.sets.has(set), `${set} is not there yet`);
        kernel.chains.get(name)?.push(rest);
        break;
      case 'add set':
        kernel.sets.add(name);
        break;
      case 'delete set':
        assert.ok(![...kernel.chains.values()].flat().some((rule) => rule.includes(`@${name}`)));
        assert.ok(kernel.sets.delete(name));
        break;
      case 'add element':
      case 'delete element':
        changeElements(kernel, verb === 'add', name, rest);
        break;
      default:
        assert.fail(command);
    }
  }
}

function changeElements(kernel: Kernel, adds: boolean, map: string, text: string): void {
  const elements = kernel.elements.get(map) ?? new Map<string, string>();
  kernel.elements.set(map, elements);
  for (const element of text.slice(2, -2).split(', ')) {
    const [key = '', value = ''] = element.split(' : ');
    assert.equal(elements.has(key), !adds, `${key} in ${map}`);
    if (!adds) elements.delete(key);
    else {
      const target = value.replace('goto ', '');
      assert.ok(value === '' || kernel.chains.has(target), `${target} is not there yet`);
      elements.set(key, value);
    }
  }
}

function isReferred(kernel: Kernel, chain: string): boolean {
  const texts = [
    ...[...kernel.chains.values()].flat(),
    ...[...kernel.elements.values()].flatMap((map) => [...map.values()]),
  ];
  return texts.some((text) => text.split(' ').includes(chain));
}

/** A random ruleset that is consistent in itself. */
function randomRuleset(random: Random): Ruleset {
  const rules = emptyRuleset();
  const chains = Array.from({ length: 8 }, (_, i) => `c${i}`).filter(() => random() < 0.6);
  const sets = ['s0', 's1', 's2'].filter(() => random() < 0.5);
  for (const set of sets) rules.sets.set(set, 'type ipv4_addr;');
  for (const [i, chain] of chains.entries()) {
    const lines = Array.from({ length: randomInt(random, 3) }, (_, k) => `line ${k}`);
    const next = chains[i + 1 + randomInt(random, 3)];
    if (next) lines.push(`goto ${next}`);
    const set = sets[randomInt(random, 4)];
    if (set) lines.push(`lookup @${set}`);
    rules.chains.set(chain, lines);
  }
  for (const map of ['m0', 'm1']) {
    const entries = Array.from({ length: randomInt(random, 6) }, (): [string, string] => {
      const chain = chains[randomInt(random, chains.length + 1)];
      return [`k${randomInt(random, 9)}`, chain ? `goto ${chain}` : ''];
    });
    rules.elements.set(map, new Map(entries));
  }
  return rules;
}

const filled = (elements: Kernel['elements']) =>
  Object.fromEntries([...elements].filter(([, map]) => map.size > 0));

test('from any ruleset to any other, every step is one that the kernel accepts', () => {
  const random = seededRandom(7);
  const kernel: Kernel = { chains: new Map(), elements: new Map(), sets: new Set() };
  let from = emptyRuleset();
  for (let round = 0; round < 500; round++) {
    const to = randomRuleset(random);
    execute(kernel, rulesetChanges(table, from, to));
    assert.deepEqual(Object.fromEntries(kernel.chains), Object.fromEntries(to.chains));
    assert.deepEqual(filled(kernel.elements), filled(to.elements));
    assert.deepEqual([...kernel.sets].sort(), [...to.sets.keys()].sort());
    from = to;
  }
});

test('nothing is written when nothing changed', () => {
  const random = seededRandom(3);
  const rules = randomRuleset(random);
  assert.deepEqual(rulesetChanges(table, rules, structuredClone(rules)), []);
});

test('many elements are written in several commands', () => {
  const rules = emptyRuleset();
  const elements = Array.from({ length: 1200 }, (_, i): [string, string] => [`k${i}`, '']);
  rules.elements.set('m', new Map(elements));
  assert.equal(rulesetChanges(table, emptyRuleset(), rules).length, 3);
});

test('the whole table replaces what was there in one transaction', () => {
  const commands = wholeTable(table, 'chain x { accept; }', emptyRuleset());
  assert.deepEqual(commands.slice(0, 2), ['add table ip t', 'delete table ip t']);
});
