import type { Command } from 'commander';

/** One word of the command line. `configure` declares arguments and options and sets the action. */
export type Verb = {
  name: string;
  summary: string;
  configure(command: Command): void;
};

/** An error whose message is the whole story for a user: printed without a stack, exit code 1. */
export class UserError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'UserError';
  }
}
