import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DYN, INT, listOf, objectType, STRING } from '#api/cel/types.ts';
import { estimateCost } from '#api/cel/estimate.ts';
import { schemaType } from '#api/cel/schema.ts';
import { CelList, Opaque, Optional, Uint } from '#api/cel/values.ts';
import { type CelEnvironment, compileCel, evaluate } from '#api/cel/cel.ts';

const environment: CelEnvironment = {
  variables: {
    object: DYN,
    self: objectType('Thing', { a: INT, s: STRING, l: listOf(INT) }),
  },
};

const bindings = {
  object: { metadata: { name: 'x', labels: { a: 'b' } }, spec: { replicas: 3, ratio: 1.5 } },
  self: { a: 5, s: 'hey', l: [1, 2, 3] },
};

/** The value as JSON-like data, or the error's text. */
function run(source: string): unknown {
  const compiled = compileCel(source, environment);
  if (!compiled.ok) return compiled.error;
  const result = evaluate(compiled.program, bindings);
  return 'error' in result ? result.error : plain(result.value);
}

function plain(value: unknown): unknown {
  if (value instanceof CelList) return [...value].map(plain);
  if (value instanceof Optional) return value.value === undefined ? 'none' : plain(value.value);
  if (value instanceof Uint) return value.value;
  return value instanceof Opaque ? value.type : value;
}

const TRUE = [
  'self.a == 5 && object.metadata.name == "x"',
  'object.spec.replicas > 2 && object.spec.ratio < 2',
  '1 / 0 == 1 || true',
  '!(false && 1 / 0 == 1)',
  'self.l.all(x, x > 0) && self.l.exists(x, x == 3) && self.l.exists_one(x, x == 2)',
  'self.l.map(x, x * 2) == [2, 4, 6]',
  'self.l.map(x, x > 1, x * 2) == [4, 6]',
  'self.l.filter(x, x > 1) == [2, 3]',
  '[1, 2].all(i, v, v == i + 1) && [1, 2].transformList(i, v, i > 0, v) == [2]',
  '{"a": 1}.transformMap(k, v, v + 1) == {"a": 2}',
  "{'a': 1, 'b': 2}.transformMapEntry(k, v, {v: k}) == {1: 'a', 2: 'b'}",
  '{"a": 1}.exists(k, k == "a") && "a" in {"a": 1} && 2 in [1, 2]',
  'has(object.spec) && !has(object.status) && has(object.metadata.labels.a)',
  "object.?status.?phase.orValue('none') == 'none'",
  "object.metadata.labels[?'a'].hasValue() && ![1][?3].hasValue()",
  "optional.of(1).or(optional.none()).value() == 1 && !optional.ofNonZeroValue('').hasValue()",
  "[?optional.of(1), ?optional.none()] == [1] && {?'a': optional.none()} == {}",
  "duration('1h30m') > duration('90s') && string(duration('90m')) == '5400s'",
  "timestamp('2024-02-29T10:20:30Z') + duration('24h') == timestamp('2024-03-01T10:20:30Z')",
  "timestamp('2024-02-29T10:20:30.5Z').getDayOfMonth() == 28",
  "timestamp('2024-02-29T23:20:30Z').getHours('+02:00') == 1",
  "timestamp('2024-07-01T12:00:00Z').getHours('Europe/Berlin') == 14",
  'int("7") + int(2.9) == 9 && double("1.5") == 1.5 && uint(3) == 3u && string(1.0) == "1"',
  'type(1) == int && type("a") == string && type([]) == list && type(null) == null_type',
  "'héllo'.size() == 5 && size(b'\\xff\\x00') == 2 && '\\u00e9' == 'é'",
  "r'\\d' == '\\\\d' && '''a'b''' == \"a'b\"",
  '5 % 3 == 2 && -5 / 2 == -2 && 2 + 3 * 4 == 14 && 7 - 2 - 1 == 4',
  '0x10 == 16 && 1e3 == 1000.0 && .5 < 1.0',
  '1 < 2.5 && 2u > 1 && dyn(1) == dyn(1.0)',
  '"abc".contains("b") && "abc".startsWith("a") && "abc".endsWith("c") && "abc".matches("^a.c$")',
  "'a,b,c'.split(',') == ['a', 'b', 'c'] && ['a', 'b'].join('-') == 'a-b'",
  "'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'tacocat'.indexOf('a', 2) == 5",
  "'hello'.substring(1, 3) == 'el' && 'hello'.charAt(4) == 'o' && ' x '.trim() == 'x'",
  "'aba'.replace('a', 'c') == 'cbc' && 'aba'.replace('a', 'c', 1) == 'cba'",
  "'AbÉ'.lowerAscii() == 'abÉ' && 'abc'.upperAscii() == 'ABC'",
  "'%d %s %.2f %x %b %o'.format([3, 'a', 1234.567, 255, 5, 8]) == '3 a 1,234.57 ff 101 10'",
  "'%s %s'.format([[1, 'a'], {'k': true}]) == '[1, \"a\"] {\"k\": true}'",
  "'%e %s %s'.format([0.5, 1.0, duration('60s')]) == '5.000000×10⁻⁰¹ 1 60s'",
  "'abc 123'.find('[0-9]+') == '123' && 'a1b22'.findAll('[0-9]+') == ['1', '22']",
  '[3, 1, 2].sort() == [1, 2, 3] && [1, 2].isSorted() && [1, 2].sum() == 3 && [1, 2].max() == 2',
  '[[1], [2]].flatten() == [1, 2] && [1, 1].distinct() == [1] && lists.range(2) == [0, 1]',
  "['bb', 'a'].sortBy(x, size(x)) == ['a', 'bb'] && [1, 2, 3].slice(1, 2) == [2]",
  '[1, 2].first().value() == 1 && ![].last().hasValue() && [1, 2].indexOf(2) == 1',
  'sets.contains([1, 2], [1]) && sets.intersects([1], [1, 2]) && !sets.equivalent([1], [2])',
  "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1k').asInteger() == 1000",
  "quantity('1').add(quantity('500m')).compareTo(quantity('1500m')) == 0 && !isQuantity('x')",
  "ip('::1').isLoopback() && ip('10.0.0.1').family() == 4 && !isIP('1.2.3') && isIP('fe80::1')",
  "string(ip('2001:db8:0:0:0:0:0:1')) == '2001:db8::1' && ip.isCanonical('::1')",
  "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')",
  "string(cidr('10.1.2.3/8').masked()) == '10.0.0.0/8' && cidr('::/0').prefixLength() == 0",
  "url('https://u:p@h:80/a%20b?x=1&x=2').getHostname() == 'h' && isURL('/a') && !isURL('a')",
  "url('https://h/?x=1&x=2').getQuery() == {'x': ['1', '2']} && url('http://h:8/').getPort() == '8'",
  "!format.dns1123Label().validate('a').hasValue() && format.named('uuid').hasValue()",
  "semver('1.2.3-rc.1').isLessThan(semver('1.2.3')) && semver('v1', true).major() == 1",
  "jsonpatch.escapeKey('a/b~c') == 'a~1b~0c'",
];

test('expressions that hold', () => {
  for (const source of TRUE) assert.equal(run(source), true, `${source}: ${String(run(source))}`);
});

const FAILING: readonly (readonly [string, string])[] = [
  ['object.spec.nope', 'no such key: nope'],
  ['self.l[7]', 'index out of bounds: 7'],
  ["object.metadata.labels['z']", 'no such key: z'],
  ['self.a / 0', 'division by zero'],
  ['self.a % 0', 'modulus by zero'],
  ['object.spec.replicas + "a"', 'no such overload'],
  ['9223372036854775807 + 1', 'integer overflow'],
  ['optional.none().value()', 'optional.none() dereference'],
  ["{'a': 1, 'a': 2}", 'Failed with repeated key'],
];

test('errors while running', () => {
  for (const [source, message] of FAILING) assert.equal(run(source), message, source);
});

const START =
  "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/** Source, column and message. */
const REFUSED: readonly (readonly [string, number, string])[] = [
  ["self.a > 'x'", 8, "found no matching overload for '_>_' applied to '(int, string)'"],
  ['self.a >', 9, `Syntax error: mismatched input '<EOF>' expecting ${START}`],
  ['self.nosuch > 0', 5, "undefined field 'nosuch'"],
  ['object.', 8, "Syntax error: no viable alternative at input '.'"],
  ['object.spec.(', 13, "Syntax error: no viable alternative at input '.('"],
  ['nosuch == 1', 1, "undeclared reference to 'nosuch' (in container '')"],
  ['1 + * 2', 5, `Syntax error: extraneous input '*' expecting ${START}`],
  ['object object', 8, "Syntax error: extraneous input 'object' expecting <EOF>"],
  ['[1, 2', 6, "Syntax error: mismatched input '<EOF>' expecting {']', ','}"],
  ['(1', 3, "Syntax error: missing ')' at '<EOF>'"],
  ['has(object)', 5, 'invalid argument to has() macro'],
  ['self.l.all(1, true)', 12, 'argument must be a simple name'],
  ["[1, 'a']", 5, "expected type 'int' but found 'string'"],
  ['1 == 1.0', 3, "found no matching overload for '_==_' applied to '(int, double)'"],
  ["duration('x') == duration('1s')", 10, 'invalid duration argument'],
  ["self.s.matches('(')", 16, 'invalid matches argument'],
  ['self.a.foo()', 11, "undeclared reference to 'foo' (in container '')"],
  ['self.a.b', 7, "type 'int' does not support field selection"],
  ['namespace', 1, 'reserved identifier: namespace'],
  [
    'self.s.all(x, true)',
    5,
    "expression of type 'string' cannot be range of a comprehension (must be list, map, or dynamic)",
  ],
];

test('what does not compile is refused in upstream words, with a mark at the place', () => {
  for (const [source, column, message] of REFUSED) {
    const mark = `${'.'.repeat(column - 1)}^`;
    const wanted = `ERROR: <input>:1:${column}: ${message}\n | ${source}\n | ${mark}`;
    assert.equal(run(source), wanted);
  }
});

test('every mistake is reported, on its own line', () => {
  const error = String(run('self.x == 1 &&\n self.y == 2'));
  assert.match(error, /:1:5: undefined field 'x'/);
  assert.match(error, /:2:6: undefined field 'y'/);
});

test('cost is counted and bounded', () => {
  const cost = (source: string, costLimit?: number): unknown => {
    const compiled = compileCel(source, environment);
    assert.ok(compiled.ok);
    const options = costLimit === undefined ? {} : { costLimit };
    const result = evaluate(compiled.program, bindings, options);
    return 'error' in result ? result.error : result.cost;
  };
  assert.equal(cost('object.metadata.name == "x"'), 4);
  assert.equal(cost('has(object.spec)'), 1);
  assert.equal(cost('[1, 2, 3].all(x, x > 0)'), 16);
  assert.equal(cost("self.s in ['a', 'b']"), 2);
  assert.equal(cost('1 in self.l'), 5);
  assert.equal(cost('double(5) < 10.0'), 1);
  assert.equal(cost('type(self.a) == int'), 4);
  assert.equal(cost('self.l + [4, 5] == [1, 2, 3, 4, 5]'), 4);
  assert.equal(cost("'%e'.format([3.14]) == '3.140000×10⁰⁰'"), 3);
  assert.equal(cost("self.s.replace('h', 'x') == 'xey'"), 4);
  assert.equal(cost('sets.equivalent(self.l, [1, 2, 3])'), 21);
  const exceeded = 'operation cancelled: actual cost limit exceeded';
  assert.equal(cost('object.metadata.name == "x"', 3), exceeded);
  const nested = 'lists.range(1000).all(x, lists.range(1000).all(y, x + y >= 0))';
  assert.equal(cost(nested), exceeded);
});

test('a loop that collects is not quadratic', () => {
  const started = performance.now();
  const size = run('lists.range(40000).map(x, x).size()');
  assert.equal(size, 40_000n);
  assert.ok(performance.now() - started < 1000);
});

test('deep nesting and length are refused, not followed', () => {
  assert.match(String(run('('.repeat(5000) + '1' + ')'.repeat(5000))), /recursion limit exceeded/);
  assert.match(String(run('1' + '+1'.repeat(60_000))), /size exceeds limit/);
  assert.equal(run(`${'true && '.repeat(5000)}true`), true);
});

test('keys of prototypes are keys like others', () => {
  assert.equal(run('has(object.constructor) || has(object.__proto__)'), false);
  assert.equal(run("'toString' in object"), false);
});

const schema = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 10 },
    free: { type: 'string' },
    count: { type: 'integer' },
    list: { type: 'array', maxItems: 5, items: { type: 'string', maxLength: 10 } },
    open: { type: 'array', items: { type: 'string' } },
    'a-b': { type: 'boolean' },
  },
} as const;

test('schemas become types: names are escaped, bounds kept', () => {
  const self = schemaType(schema);
  assert.ok(self?.kind === 'object');
  assert.deepEqual(
    [...self.fields.keys()],
    ['name', 'free', 'count', 'list', 'open', 'a__dash__b'],
  );
  assert.deepEqual(self.fields.get('name'), { kind: 'string', minSize: 2, maxElements: 40 });
  const compiled = compileCel('self.a__dash__b && !has(self.count)', { variables: { self } });
  assert.ok(compiled.ok);
  const result = evaluate(compiled.program, { self: { 'a-b': true } });
  assert.equal('value' in result && result.value, true);
});

test('the most that a rule can cost follows from the bounds of its schema', () => {
  const self = schemaType(schema);
  assert.ok(self);
  const most = (source: string): number => {
    const compiled = compileCel(source, { variables: { self } });
    assert.ok(compiled.ok, compiled.ok ? '' : compiled.error);
    return estimateCost(compiled.program).max;
  };
  // Two selections and one comparison of at most 40 bytes with 3 characters.
  assert.equal(most("self.name == 'abc'"), 3);
  assert.equal(most("self.name.startsWith('abc')"), 3);
  assert.equal(most("self.name.contains('abc')"), 2 + 4);
  assert.equal(most('has(self.name)'), 1);
  // Five rounds: condition 2, accumulator 1, comparison and item 2.
  assert.equal(most("self.list.all(x, x == 'a')"), 2 + 5 * 5 + 1);
  assert.ok(most("self.free.matches('^a+$')") > 100_000);
  assert.ok(most('self.open.all(x, self.open.all(y, x == y))') > 10_000_000);
});
