import { invalid } from '#api/field-error.ts';
import type { Errors } from '#api/validate.ts';

/** A path that stays below where it starts. */
export function checkNoBacksteps(errors: Errors, path: string, target: string): void {
  if (target.split('/').includes('..')) {
    errors.push(invalid(path, target, "must not contain '..'"));
  }
}

export function checkDescendingPath(errors: Errors, path: string, target: string): void {
  if (target.startsWith('/')) errors.push(invalid(path, target, 'must be a relative path'));
  checkNoBacksteps(errors, path, target);
}

/** Names that begin with two dots belong to the agent's own atomic writer. */
export function checkLocalPath(errors: Errors, path: string, target: string): void {
  checkDescendingPath(errors, path, target);
  if (target.startsWith('..') && !target.startsWith('../')) {
    errors.push(invalid(path, target, "must not start with '..'"));
  }
}
