import type { GuestUser } from '#node-agent/runtime/microvm/machine.ts';
import type { ContainerSecurityContext } from '#node-agent/runtime/service.ts';

export type UserFiles = { passwd: string; group: string };
type PasswdEntry = { name: string; uid: number; gid: number; home: string };
type GroupEntry = { name: string; gid: number; members: string[] };
type Wish = Pick<
  ContainerSecurityContext,
  'runAsUser' | 'runAsGroup' | 'runAsUsername' | 'supplementalGroups' | 'supplementalGroupsPolicy'
>;

/**
 * Who a container's process is: what the pod says over what the image says (`user[:group]`), by the
 * names of the image's own files. Throws an Error for a name that they lack.
 * Source: OCI image specification, "User"; Kubernetes "Supplemental groups policy".
 */
export function resolveUser(
  wish: Wish,
  imageUser: string,
  files: UserFiles,
): { user: GuestUser; home: string } {
  const passwd = parsePasswd(files.passwd);
  const groups = parseGroups(files.group);
  const [imageName = '', imageGroup = ''] = imageUser.split(':');
  const fromImage = !wish.runAsUser && !wish.runAsUsername;
  const named = wish.runAsUser
    ? String(wish.runAsUser.value)
    : wish.runAsUsername || imageName || '0';
  const entry = findUser(passwd, named);
  const uid = entry?.uid ?? Number(named);
  const gid = wish.runAsGroup
    ? wish.runAsGroup.value
    : fromImage && imageGroup
      ? findGroup(groups, imageGroup)
      : (entry?.gid ?? 0);
  const own =
    wish.supplementalGroupsPolicy === 'Strict' || !entry
      ? []
      : groups.filter(({ members }) => members.includes(entry.name)).map((group) => group.gid);
  const all = new Set([gid, ...own, ...(wish.supplementalGroups ?? [])]);
  return { user: { uid, gid, groups: [...all] }, home: entry?.home || '/' };
}

const isNumber = (text: string): boolean => /^\d{1,10}$/.test(text);

function findUser(passwd: readonly PasswdEntry[], named: string): PasswdEntry | undefined {
  const byName = passwd.find(({ name }) => name === named);
  if (byName) return byName;
  if (isNumber(named)) return passwd.find(({ uid }) => uid === Number(named));
  throw new Error(`no users found: the image's /etc/passwd has no user "${named}"`);
}

function findGroup(groups: readonly GroupEntry[], named: string): number {
  const byName = groups.find(({ name }) => name === named);
  if (byName) return byName.gid;
  if (isNumber(named)) return Number(named);
  throw new Error(`no groups found: the image's /etc/group has no group "${named}"`);
}

function rows(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'));
}

const parsePasswd = (text: string): PasswdEntry[] =>
  rows(text).flatMap(([name = '', , uid = '', gid = '', , home = '']) =>
    isNumber(uid) && isNumber(gid) ? [{ name, uid: Number(uid), gid: Number(gid), home }] : [],
  );

const parseGroups = (text: string): GroupEntry[] =>
  rows(text).flatMap(([name = '', , gid = '', members = '']) =>
    isNumber(gid) ? [{ name, gid: Number(gid), members: members.split(',').filter(Boolean) }] : [],
  );
