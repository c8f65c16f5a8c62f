import type { TarMember } from '#base/oci/tar-reader.ts';

/** What becomes of one path; content of files lies in `contentFile`, shared by hard links. */
export type TreeNode = Omit<TarMember, 'path' | 'linkTarget'> & {
  linkTarget: string;
  /** Set for regular files. */
  contentFile: string | undefined;
  children: Map<string, TreeNode>;
};

/** An image's members are bounded, so that an archive of empty names cannot eat the memory. */
export const MAX_TREE_NODES = 2_000_000;
const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

/** The root file system of an image while its layers are laid over each other. */
export type LayerTree = {
  readonly root: TreeNode;
  /** Begins a layer: what an opaque mark hides is all that earlier layers brought. */
  nextLayer(): void;
  /**
   * Takes a member in. `contentFile` is where a file's content was put. Returns content files that
   * nothing needs any more. Throws for names outside the root, and for links to what is not there.
   */
  add(member: TarMember, contentFile: string | undefined): string[];
};

const directory = (): TreeNode => ({
  type: 'directory',
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtimeSeconds: 0,
  size: 0,
  linkTarget: '',
  device: { major: 0, minor: 0 },
  xattrs: {},
  contentFile: undefined,
  children: new Map(),
});

/**
 * Layers are merged as data, not in a folder, so that no symbolic link of an image can lead a
 * write outside. Source: OCI image specification, "Image Layer Filesystem Changeset".
 */
export function createLayerTree(): LayerTree {
  const root = directory();
  /** How many names a content file has. */
  const names = new Map<string, number>();
  /** Nodes of the layer being read, which its own opaque marks do not hide. */
  let fresh = new Set<TreeNode>();
  let count = 0;

  function parts(path: string): string[] {
    const found = path.split('/').filter((part) => part !== '' && part !== '.');
    if (found.includes('..')) throw new Error(`layer: the path "${path}" leaves the image`);
    return found;
  }

  /** The directory at `dirs`, made where missing; a file in the way gives place. */
  function enter(dirs: readonly string[], gone: string[]): TreeNode {
    let node = root;
    for (const name of dirs) {
      let next = node.children.get(name);
      if (next?.type !== 'directory') {
        if (next) drop(next, gone);
        next = directory();
        count++;
        node.children.set(name, next);
        fresh.add(next);
      }
      node = next;
    }
    return node;
  }

  function find(path: string): TreeNode | undefined {
    let node: TreeNode | undefined = root;
    for (const name of parts(path)) node = node?.children.get(name);
    return node;
  }

  function drop(node: TreeNode, gone: string[]): void {
    for (const child of node.children.values()) drop(child, gone);
    count--;
    if (node.contentFile === undefined) return;
    const left = (names.get(node.contentFile) ?? 1) - 1;
    names.set(node.contentFile, left);
    if (left === 0) gone.push(node.contentFile);
  }

  function hideOlder(node: TreeNode, gone: string[]): void {
    for (const [name, child] of node.children) {
      if (fresh.has(child)) {
        hideOlder(child, gone);
      } else if (![...walk(child)].some((below) => fresh.has(below))) {
        node.children.delete(name);
        drop(child, gone);
      } else {
        hideOlder(child, gone);
      }
    }
  }

  function put(parent: TreeNode, name: string, node: TreeNode, gone: string[]): void {
    const old = parent.children.get(name);
    // A directory over a directory changes its owner and mode, not what is in it.
    if (old?.type === 'directory' && node.type === 'directory') node.children = old.children;
    else if (old) drop(old, gone);
    if (old?.type !== 'directory' || node.type !== 'directory') count++;
    parent.children.set(name, node);
    fresh.add(node);
    if (count > MAX_TREE_NODES) throw new Error(`layer: more than ${MAX_TREE_NODES} files`);
  }

  return {
    root,
    nextLayer() {
      fresh = new Set();
    },
    add(member, contentFile) {
      const gone: string[] = [];
      const path = parts(member.path);
      const name = path.pop();
      if (name === undefined) {
        if (member.type === 'directory') Object.assign(root, owned(member));
        return gone;
      }
      const parent = enter(path, gone);
      if (name === OPAQUE) {
        hideOlder(parent, gone);
      } else if (name.startsWith(WHITEOUT)) {
        const hidden = parent.children.get(name.slice(WHITEOUT.length));
        if (hidden) {
          parent.children.delete(name.slice(WHITEOUT.length));
          drop(hidden, gone);
        }
      } else if (member.type === 'hardlink') {
        const target = find(member.linkTarget);
        if (!target || target.type === 'directory')
          throw new Error(
            `layer: "${member.path}" is a link to "${member.linkTarget}", which is no file`,
          );
        // The same node under two names: one inode in the image.
        if (target.contentFile !== undefined)
          names.set(target.contentFile, (names.get(target.contentFile) ?? 0) + 1);
        if (parent.children.get(name) !== target) put(parent, name, target, gone);
      } else {
        if (contentFile !== undefined) names.set(contentFile, 1);
        put(parent, name, nodeOf(member, contentFile), gone);
      }
      return gone;
    },
  };
}

/** Field by field: a member also holds the stream of its archive. */
const nodeOf = (member: TarMember, contentFile: string | undefined): TreeNode => ({
  type: member.type,
  mode: member.mode,
  uid: member.uid,
  gid: member.gid,
  mtimeSeconds: member.mtimeSeconds,
  size: member.size,
  linkTarget: member.linkTarget,
  device: member.device,
  xattrs: member.xattrs,
  contentFile,
  children: new Map(),
});

function* walk(node: TreeNode): Generator<TreeNode> {
  yield node;
  for (const child of node.children.values()) yield* walk(child);
}

const owned = ({ mode, uid, gid, mtimeSeconds, xattrs }: TarMember) => ({
  mode,
  uid,
  gid,
  mtimeSeconds,
  xattrs,
});
