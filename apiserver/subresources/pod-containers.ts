import { badRequestError, notFoundError } from '#api/status.ts';
import type { Pod } from '#api/types.ts';
import type { HandlerContext, HandlerRequest } from '#apiserver/subresources/handler.ts';

/** The pod that a request is about. StatusError 404. */
export function podOf(context: HandlerContext, { info }: HandlerRequest): Pod {
  const { namespace, name } = info;
  const pod = context.reader.get<Pod>('', 'pods', { namespace, name });
  if (!pod) throw notFoundError({ group: '', resource: 'pods' }, name);
  return pod;
}

/** The container asked for, or the only one. StatusError 400 when it is none or not clear. */
export function containerOf(pod: Pod, asked: string | null): string {
  const { containers, initContainers = [], ephemeralContainers = [] } = pod.spec;
  const name = pod.metadata.name ?? '';
  const names = (list: readonly { name: string }[]): string[] => list.map((one) => one.name);
  if (asked) {
    const all = [...names(containers), ...names(initContainers), ...names(ephemeralContainers)];
    if (all.includes(asked)) return asked;
    throw badRequestError(`container ${asked} is not valid for pod ${name}`);
  }
  const [only, another] = names(containers);
  if (only !== undefined && another === undefined) return only;
  const choice = only === undefined ? '' : `, choose one of: [${names(containers).join(' ')}]`;
  const init =
    initContainers.length > 0
      ? ` or one of the init containers: [${names(initContainers).join(' ')}]`
      : '';
  throw badRequestError(`a container name must be specified for pod ${name}${choice}${init}`);
}

/** Query booleans: absent is undefined, '0' and 'false' are false, anything else is true. */
export function queryFlag(query: URLSearchParams, name: string): boolean | undefined {
  const value = query.get(name);
  if (value === null) return undefined;
  const text = value.toLowerCase();
  return text !== '0' && text !== 'false';
}
