import { readFileSync, statSync } from 'node:fs';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { withAuthenticated } from '#apiserver/authn/client-certificate.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** The file is looked at this often at most, and only while requests come in. */
const RECHECK_MS = 1000;

export type TokenFile = { lookup(token: string): UserInfo | undefined };

/**
 * Static tokens of `--token-auth-file`, read again when the file changes; a file that has become
 * unreadable leaves the old tokens in force. Throws at the start when the file is missing or wrong.
 */
export function openTokenFile(path: string, options: { clock: Clock; log: Log }): TokenFile {
  let users = parseTokenFile(readFileSync(path, 'utf8'), path);
  let stamp = stampOf(path);
  let nextCheckMs = options.clock.now() + RECHECK_MS;
  const recheck = () => {
    nextCheckMs = options.clock.now() + RECHECK_MS;
    try {
      const now = stampOf(path);
      if (now === stamp) return;
      stamp = now;
      users = parseTokenFile(readFileSync(path, 'utf8'), path);
      options.log.info('read the token file again', { path, users: users.size });
    } catch (error) {
      options.log.error('token file cannot be read; keeping the last one', {
        error: errorText(error),
      });
    }
  };
  return {
    lookup(token) {
      if (options.clock.now() >= nextCheckMs) recheck();
      return users.get(token);
    },
  };
}

function stampOf(path: string): string {
  const { mtimeMs, size, ino } = statSync(path);
  return `${mtimeMs}/${size}/${ino}`;
}

/**
 * Lines `token,user,uid[,"group1,group2"]`. Throws with file and line for a line that says less.
 * Source: Kubernetes "Authenticating", static token file.
 */
export function parseTokenFile(text: string, path: string): Map<string, UserInfo> {
  const users = new Map<string, UserInfo>();
  const lines = text.split(/\r?\n/);
  for (const [index, line] of lines.entries()) {
    if (line.trim() === '') continue;
    const fields = parseCsvLine(line);
    const [token, name, uid, groups] = fields;
    const where = `${path}:${index + 1}`;
    if (fields.length < 3) {
      throw new Error(`${where}: a token line needs at least 3 columns (token,user,uid)`);
    }
    if (!token) throw new Error(`${where}: the token is empty`);
    if (!name) throw new Error(`${where}: the user name is empty`);
    const listed = (groups ?? '').split(',').map((group) => group.trim());
    users.set(token, {
      name,
      ...(uid ? { uid } : {}),
      groups: withAuthenticated(listed.filter((group) => group !== '')),
    });
  }
  return users;
}

/** One CSV line: quotes protect commas, a doubled quote is one. Source: RFC 4180. */
function parseCsvLine(line: string): string[] {
  const fields: string[] = [];
  let field = '';
  let quoted = false;
  for (let i = 0; i < line.length; i++) {
    const char = line[i] ?? '';
    if (quoted) {
      if (char !== '"') field += char;
      else if (line[i + 1] === '"') field += line[++i];
      else quoted = false;
    } else if (char === '"') quoted = true;
    else if (char === ',') {
      fields.push(field.trim());
      field = '';
    } else field += char;
  }
  fields.push(field.trim());
  return fields;
}
