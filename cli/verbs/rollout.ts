import type { Verb } from '#cli/verb.ts';
import { UserError } from '#cli/verb.ts';
import { type ClientContext, type ClientFlags, clientFlags, withClient } from '#cli/context.ts';
import { formatRows } from '#cli/output.ts';
import { deployments, replicaSets } from '#client/resources.ts';
import type { Deployment, ReplicaSet } from '#api/types.ts';

const REVISION = 'deployment.kubernetes.io/revision';
const CHANGE_CAUSE = 'kubernetes.io/change-cause';

type Action = (context: ClientContext, name: string, flags: Flags) => Promise<void>;
type Flags = ClientFlags & { toRevision?: string; timeout?: string };

const actions: Record<string, Action> = {
  status: waitUntilRolledOut,
  history: showHistory,
  undo: rollBack,
  restart: ({ api, namespace }, name) =>
    patchTemplate(api, namespace, name, {
      metadata: { annotations: { 'kubectl.kubernetes.io/restartedAt': new Date().toISOString() } },
    }).then(() => console.log(`deployment/${name} restarted`)),
  pause: (context, name) => setPaused(context, name, true),
  resume: (context, name) => setPaused(context, name, false),
};

export const rollout: Verb = {
  name: 'rollout',
  summary: 'follow, list, undo, restart, pause or resume a rollout',
  configure(command) {
    clientFlags(command)
      .argument('<action>', Object.keys(actions).join(' | '))
      .argument('<target>', 'deployment/NAME')
      .option('--to-revision <number>', 'undo: to this revision, not the last one')
      .option('--timeout <seconds>', 'status: give up after this long')
      .action((word: string, target: string, flags: Flags) => {
        const action = actions[word];
        if (!action) {
          throw new UserError(`unknown action "${word}"; use ${Object.keys(actions).join(', ')}`);
        }
        const name = target.replace(/^(deployments?|deploy)(\.apps)?\//, '');
        return withClient(flags, (context) => action(context, name, flags));
      });
  },
};

async function waitUntilRolledOut(
  { api, namespace }: ClientContext,
  name: string,
  flags: Flags,
): Promise<void> {
  const signal = flags.timeout ? AbortSignal.timeout(Number(flags.timeout) * 1000) : undefined;
  let deployment = await api.get(deployments, { namespace, name });
  let last = '';
  const report = (): boolean => {
    const { done, text } = rolloutState(deployment);
    if (text !== last) console.log(text);
    last = text;
    return done;
  };
  if (report()) return;
  try {
    for await (const batch of api.watch(deployments, {
      namespace,
      fieldSelector: `metadata.name=${name}`,
      resourceVersion: deployment.metadata.resourceVersion ?? '',
      signal,
    })) {
      for (const event of batch) {
        if (event.type === 'DELETED') throw new UserError(`deployment "${name}" was deleted`);
        if (event.type !== 'BOOKMARK') deployment = event.object;
      }
      if (report()) return;
    }
  } catch (error) {
    if (!signal?.aborted) throw error;
  }
  throw new UserError(`deployment "${name}" is not rolled out after ${flags.timeout} s`);
}

/** What `rollout status` says of a deployment. */
export function rolloutState(deployment: Deployment): { done: boolean; text: string } {
  const { metadata, spec, status } = deployment;
  const name = metadata.name ?? '';
  const waiting = (what: string) => ({
    done: false,
    text: `Waiting for deployment "${name}" rollout to finish: ${what}...`,
  });
  if ((status?.observedGeneration ?? 0) < (metadata.generation ?? 0)) {
    return { done: false, text: 'Waiting for deployment spec update to be observed...' };
  }
  const progressing = status?.conditions?.find((c) => c.type === 'Progressing');
  if (progressing?.reason === 'ProgressDeadlineExceeded') {
    throw new UserError(`deployment "${name}" exceeded its progress deadline`);
  }
  const wanted = spec?.replicas ?? 1;
  const updated = status?.updatedReplicas ?? 0;
  const total = status?.replicas ?? 0;
  const available = status?.availableReplicas ?? 0;
  if (updated < wanted)
    return waiting(`${updated} out of ${wanted} new replicas have been updated`);
  if (total > updated) return waiting(`${total - updated} old replicas are pending termination`);
  if (available < updated)
    return waiting(`${available} of ${updated} updated replicas are available`);
  return { done: true, text: `deployment "${name}" successfully rolled out` };
}

async function ownReplicaSets(
  { api, namespace }: ClientContext,
  name: string,
): Promise<{ deployment: Deployment; revisions: { revision: number; replicaSet: ReplicaSet }[] }> {
  const deployment = await api.get(deployments, { namespace, name });
  const { items } = await api.list(replicaSets, { namespace });
  const revisions = items
    .filter((rs) => rs.metadata.ownerReferences?.some((o) => o.uid === deployment.metadata.uid))
    .map((replicaSet) => ({
      replicaSet,
      revision: Number(replicaSet.metadata.annotations?.[REVISION] ?? 0),
    }))
    .sort((a, b) => a.revision - b.revision);
  return { deployment, revisions };
}

async function showHistory(context: ClientContext, name: string): Promise<void> {
  const { revisions } = await ownReplicaSets(context, name);
  const rows = revisions.map(({ revision, replicaSet }) => [
    String(revision),
    replicaSet.metadata.annotations?.[CHANGE_CAUSE] ?? '<none>',
    (replicaSet.spec?.template?.spec?.containers ?? []).map((c) => c.image ?? '').join(','),
  ]);
  process.stdout.write(formatRows([['REVISION', 'CHANGE-CAUSE', 'IMAGES'], ...rows]));
}

async function rollBack(context: ClientContext, name: string, flags: Flags): Promise<void> {
  const { deployment, revisions } = await ownReplicaSets(context, name);
  const current = Number(deployment.metadata.annotations?.[REVISION] ?? 0);
  const wanted = flags.toRevision === undefined ? undefined : Number(flags.toRevision);
  const target =
    wanted === undefined
      ? revisions.filter((r) => r.revision < current).at(-1)
      : revisions.find((r) => r.revision === wanted);
  if (!target) {
    const there = revisions.map((r) => r.revision).join(', ');
    throw new UserError(
      `deployment "${name}" has no ${wanted === undefined ? 'earlier revision' : `revision ${wanted}`}; there are: ${there}`,
    );
  }
  const { 'pod-template-hash': _hash, ...labels } =
    target.replicaSet.spec?.template?.metadata?.labels ?? {};
  const template = {
    ...target.replicaSet.spec?.template,
    metadata: { ...target.replicaSet.spec?.template?.metadata, labels },
  };
  await context.api.patch(
    deployments,
    { namespace: context.namespace, name },
    { type: 'json', body: [{ op: 'replace', path: '/spec/template', value: template }] },
  );
  console.log(`deployment/${name} rolled back to revision ${target.revision}`);
}

async function setPaused(
  { api, namespace }: ClientContext,
  name: string,
  paused: boolean,
): Promise<void> {
  await api.patch(deployments, { namespace, name }, { type: 'merge', body: { spec: { paused } } });
  console.log(`deployment/${name} ${paused ? 'paused' : 'resumed'}`);
}

const patchTemplate = (
  api: ClientContext['api'],
  namespace: string,
  name: string,
  template: unknown,
): Promise<Deployment> =>
  api.patch(deployments, { namespace, name }, { type: 'merge', body: { spec: { template } } });
