import type { Verb } from '#cli/verb.ts';
import { apply } from '#cli/verbs/apply.ts';
import { del } from '#cli/verbs/delete.ts';
import { describe } from '#cli/verbs/describe.ts';
import { down } from '#cli/verbs/down.ts';
import { exec } from '#cli/verbs/exec.ts';
import { get } from '#cli/verbs/get.ts';
import { image } from '#cli/verbs/image.ts';
import { join } from '#cli/verbs/join.ts';
import { logs } from '#cli/verbs/logs.ts';
import { nodeCredentials } from '#cli/verbs/node-credentials.ts';
import { portForward } from '#cli/verbs/port-forward.ts';
import { reset } from '#cli/verbs/reset.ts';
import { rollout } from '#cli/verbs/rollout.ts';
import { scale } from '#cli/verbs/scale.ts';
import { status } from '#cli/verbs/status.ts';
import { token } from '#cli/verbs/token.ts';
import { up } from '#cli/verbs/up.ts';

/** THE LIST of verbs, in the order that help shows them. */
export const verbs: readonly Verb[] = [
  up,
  down,
  status,
  token,
  join,
  reset,
  image,
  get,
  describe,
  apply,
  del,
  logs,
  exec,
  portForward,
  scale,
  rollout,
  nodeCredentials,
];
