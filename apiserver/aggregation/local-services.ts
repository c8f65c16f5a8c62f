import type { Scheme } from '#api/scheme.ts';
import type { APIService } from '#api/types.ts';

/** Groups' ranks as upstream gives them: they decide the order of discovery. */
const GROUP_PRIORITIES: Readonly<Record<string, number>> = {
  '': 18_000,
  apps: 17_800,
  'events.k8s.io': 17_750,
  'authentication.k8s.io': 17_700,
  'authorization.k8s.io': 17_600,
  autoscaling: 17_500,
  batch: 17_400,
  'certificates.k8s.io': 17_300,
  'networking.k8s.io': 17_200,
  policy: 17_100,
  'rbac.authorization.k8s.io': 17_000,
  'storage.k8s.io': 16_800,
  'admissionregistration.k8s.io': 16_700,
  'apiextensions.k8s.io': 16_700,
  'scheduling.k8s.io': 16_600,
  'coordination.k8s.io': 16_500,
  'node.k8s.io': 16_300,
  'discovery.k8s.io': 16_200,
  'resource.k8s.io': 16_200,
  'flowcontrol.apiserver.k8s.io': 16_100,
};
/** Of a group without a place of its own, such as those of custom resources. */
const OTHER_GROUP_PRIORITY = 1_000;
const OTHER_VERSION_PRIORITY = 100;

/** The group that APIServices are in: it has none itself. */
const OWN_GROUP = 'apiregistration.k8s.io';

export const localPriority = (group: string): number =>
  group === OWN_GROUP
    ? Number.POSITIVE_INFINITY
    : (GROUP_PRIORITIES[group] ?? OTHER_GROUP_PRIORITY);

/** Says who keeps an APIService: `onstart` for built-in groups, `true` for those that come and go. */
export const AUTOMANAGED = 'kube-aggregator.kubernetes.io/automanaged';

/** The APIServices of all groups and versions that this server answers for itself. */
export function localServices(scheme: Scheme): APIService[] {
  return scheme
    .groups()
    .filter(({ group }) => group !== OWN_GROUP)
    .flatMap(({ group, versions }) =>
      versions.map((version, i) => {
        const builtin = group in GROUP_PRIORITIES;
        return {
          metadata: {
            name: `${version}.${group}`,
            labels: { [AUTOMANAGED]: builtin ? 'onstart' : 'true' },
          },
          spec: {
            group,
            version,
            groupPriorityMinimum: localPriority(group),
            versionPriority: builtin ? versionPriority(group, i) : OTHER_VERSION_PRIORITY,
          },
        };
      }),
    );
}

/** The core group's only version is 1, the preferred of two is 30, others are 15. */
function versionPriority(group: string, place: number): number {
  if (group === '') return 1;
  return group === 'autoscaling' && place === 0 ? 30 : 15;
}
