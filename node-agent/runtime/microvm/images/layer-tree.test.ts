import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TarMember } from '#base/oci/tar-reader.ts';
import { createLayerTree, type TreeNode } from './layer-tree.ts';

/** `d/` is a directory, `f=content` a file, `l->x` a hard link, `s~>x` a symbolic link. */
function member(text: string): { member: TarMember; content: string | undefined } {
  const [, path = '', kind = '', rest = ''] = /^(.*?)(\/$|=|->|~>)(.*)$/.exec(text) ?? [];
  const type = ({ '/': 'directory', '=': 'file', '->': 'hardlink', '~>': 'symlink' } as const)[
    kind
  ];
  assert.ok(type);
  return {
    member: {
      path,
      type,
      mode: 0o755,
      uid: 0,
      gid: 0,
      mtimeSeconds: 0,
      size: rest.length,
      linkTarget: rest,
      device: { major: 0, minor: 0 },
      xattrs: {},
    },
    content: type === 'file' ? rest : undefined,
  };
}

function lay(layers: readonly string[][]): { paths: Record<string, string>; gone: string[] } {
  const tree = createLayerTree();
  const gone: string[] = [];
  for (const layer of layers) {
    tree.nextLayer();
    for (const text of layer) {
      const { member: one, content } = member(text);
      gone.push(...tree.add(one, content));
    }
  }
  const paths: Record<string, string> = {};
  const visit = (node: TreeNode, path: string): void => {
    for (const [name, child] of node.children) {
      paths[path + name] = child.contentFile ?? (child.linkTarget || child.type);
      visit(child, `${path}${name}/`);
    }
  };
  visit(tree.root, '');
  return { paths, gone };
}

test('later layers lie over earlier ones', () => {
  const table: {
    what: string;
    layers: string[][];
    paths: Record<string, string>;
    gone?: string[];
  }[] = [
    { what: 'replace', layers: [['a=1'], ['./a=2']], paths: { a: '2' }, gone: ['1'] },
    { what: 'missing parents', layers: [['x/y=1']], paths: { x: 'directory', 'x/y': '1' } },
    {
      what: 'whiteout',
      layers: [['d/a=1', 'd/b=2'], ['d/.wh.a=']],
      paths: { d: 'directory', 'd/b': '2' },
      gone: ['1'],
    },
    { what: 'whiteout of a directory', layers: [['d/a=1'], ['.wh.d=']], paths: {}, gone: ['1'] },
    {
      what: 'an opaque mark hides the earlier, whatever the order',
      layers: [
        ['d/a=1', 'd/s/x=2'],
        ['d/n=3', 'd/s/y=4', 'd/.wh..wh..opq='],
      ],
      paths: { d: 'directory', 'd/n': '3', 'd/s': 'directory', 'd/s/y': '4' },
      gone: ['1', '2'],
    },
    {
      what: 'a directory keeps its files',
      layers: [['d/a=1'], ['d/']],
      paths: { d: 'directory', 'd/a': '1' },
    },
    {
      what: 'a file for a directory',
      layers: [['d/a=1'], ['d=2']],
      paths: { d: '2' },
      gone: ['1'],
    },
    {
      what: 'a directory for a link',
      layers: [['d~>/etc'], ['d/passwd=1']],
      paths: { d: 'directory', 'd/passwd': '1' },
    },
    {
      what: 'hard links keep the content',
      layers: [['a=1', 'b->a'], ['.wh.a=']],
      paths: { b: '1' },
    },
    { what: 'an absolute path is inside', layers: [['/a=1']], paths: { a: '1' } },
  ];
  for (const { what, layers, paths, gone = [] } of table) {
    const found = lay(layers);
    assert.deepEqual(found.paths, paths, what);
    assert.deepEqual(found.gone.sort(), gone, what);
  }
});

test('names that leave the image and links to nothing are refused', () => {
  assert.throws(() => lay([['../a=1']]), /leaves the image/);
  assert.throws(() => lay([['a/../../b=1']]), /leaves the image/);
  assert.throws(() => lay([['a->nothing']]), /is no file/);
  assert.throws(() => lay([['a->../../etc/passwd']]), /leaves the image/);
});
