import { isForLinux } from '#apiserver/pod-security/baseline.ts';
import type { Check } from '#apiserver/pod-security/checks.ts';
import {
  containersOf,
  containerText,
  namesWhere,
  quoted,
  settersText,
} from '#apiserver/pod-security/subjects.ts';

/** Today's practice of hardening. Source: "Pod Security Standards", Restricted. */

const allowPrivilegeEscalation: Check = {
  id: 'allowPrivilegeEscalation',
  since: 8,
  find(subject, minor) {
    if (!isForLinux(subject, minor)) return undefined;
    const names = namesWhere(
      subject.spec,
      ({ securityContext }) => securityContext?.allowPrivilegeEscalation !== false,
    );
    if (names.length === 0) return undefined;
    return {
      reason: 'allowPrivilegeEscalation != false',
      detail: `${containerText(names)} must set securityContext.allowPrivilegeEscalation=false`,
    };
  },
};

const capabilities: Check = {
  id: 'capabilities',
  since: 22,
  replaces: 'capabilities',
  find(subject, minor) {
    if (!isForLinux(subject, minor)) return undefined;
    const added = new Set<string>();
    const notDropping = namesWhere(
      subject.spec,
      ({ securityContext }) => !securityContext?.capabilities?.drop?.includes('ALL'),
    );
    const adding = namesWhere(subject.spec, ({ securityContext }) => {
      const wrong = (securityContext?.capabilities?.add ?? []).filter(
        (one) => one !== 'NET_BIND_SERVICE',
      );
      for (const one of wrong) added.add(one);
      return wrong.length > 0;
    });
    const details = [
      ...(notDropping.length > 0
        ? [`${containerText(notDropping)} must set securityContext.capabilities.drop=["ALL"]`]
        : []),
      ...(adding.length > 0
        ? [
            `${containerText(adding)} must not include ${quoted([...added].sort())} in securityContext.capabilities.add`,
          ]
        : []),
    ];
    if (details.length === 0) return undefined;
    return { reason: 'unrestricted capabilities', detail: details.join('; ') };
  },
};

const VOLUME_TYPES = new Set([
  'configMap',
  'csi',
  'downwardAPI',
  'emptyDir',
  'ephemeral',
  'image',
  'persistentVolumeClaim',
  'projected',
  'secret',
]);

const restrictedVolumes: Check = {
  id: 'restrictedVolumes',
  since: 0,
  replaces: 'hostPathVolumes',
  find({ spec }) {
    const types = new Set<string>();
    const names: string[] = [];
    for (const volume of spec.volumes ?? []) {
      const type = Object.keys(volume).find((key) => key !== 'name');
      if (type === undefined || VOLUME_TYPES.has(type)) continue;
      types.add(type);
      names.push(volume.name);
    }
    if (names.length === 0) return undefined;
    const volumes = `volume${names.length > 1 ? 's' : ''} ${quoted(names)}`;
    const use = names.length > 1 ? 'use' : 'uses';
    const list = `restricted volume type${types.size > 1 ? 's' : ''} ${quoted([...types].sort())}`;
    return { reason: 'restricted volume types', detail: `${volumes} ${use} ${list}` };
  },
};

const runAsNonRoot: Check = {
  id: 'runAsNonRoot',
  since: 0,
  find({ spec }, minor) {
    // A pod with its own users has a root that is nobody on the host.
    if (minor >= 35 && spec.hostUsers === false) return undefined;
    const reason = 'runAsNonRoot != true';
    const ofPod = spec.securityContext?.runAsNonRoot;
    const saysNo = namesWhere(
      spec,
      ({ securityContext }) => securityContext?.runAsNonRoot === false,
    );
    const saysNothing = namesWhere(
      spec,
      ({ securityContext }) => securityContext?.runAsNonRoot === undefined,
    );
    const podIsWrong = ofPod === false && saysNothing.length > 0;
    const setters = settersText(ofPod === false, saysNo);
    if (saysNo.length > 0 || podIsWrong || ofPod === false) {
      return { reason, detail: `${setters} must not set securityContext.runAsNonRoot=false` };
    }
    if (ofPod === true || saysNothing.length === 0) return undefined;
    const who = `pod or ${containerText(saysNothing)}`;
    return { reason, detail: `${who} must set securityContext.runAsNonRoot=true` };
  },
};

const runAsUser: Check = {
  id: 'runAsUser',
  since: 23,
  find({ spec }, minor) {
    if (minor >= 35 && spec.hostUsers === false) return undefined;
    const names = namesWhere(spec, ({ securityContext }) => securityContext?.runAsUser === 0);
    const setters = settersText(spec.securityContext?.runAsUser === 0, names);
    if (!setters) return undefined;
    return { reason: 'runAsUser=0', detail: `${setters} must not set runAsUser=0` };
  },
};

const seccompProfile: Check = {
  id: 'seccompProfile',
  since: 19,
  replaces: 'seccompProfile',
  find(subject, minor) {
    if (!isForLinux(subject, minor)) return undefined;
    const { spec } = subject;
    const isGood = (type: string | undefined): boolean =>
      type === 'RuntimeDefault' || type === 'Localhost';
    const ofPod = spec.securityContext?.seccompProfile?.type;
    const podIsWrong = ofPod !== undefined && !isGood(ofPod);
    const wrong = containersOf(spec).filter(({ securityContext }) => {
      const type = securityContext?.seccompProfile?.type;
      return type !== undefined && !isGood(type);
    });
    const reason = 'seccompProfile';
    if (podIsWrong || wrong.length > 0) {
      const types = wrong.map(({ securityContext }) => securityContext?.seccompProfile?.type ?? '');
      const all = [...new Set([...(podIsWrong ? [ofPod] : []), ...types])].sort();
      const setters = settersText(
        podIsWrong,
        wrong.map(({ name }) => name),
      );
      const what = `securityContext.seccompProfile.type to ${quoted(all)}`;
      return { reason, detail: `${setters} must not set ${what}` };
    }
    if (isGood(ofPod)) return undefined;
    const names = namesWhere(spec, ({ securityContext }) => !securityContext?.seccompProfile?.type);
    if (names.length === 0) return undefined;
    const what = 'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"';
    return { reason, detail: `pod or ${containerText(names)} must set ${what}` };
  },
};

/** In the order of their names, which is the order in which violations are told. */
export const RESTRICTED_CHECKS: readonly Check[] = [
  allowPrivilegeEscalation,
  capabilities,
  restrictedVolumes,
  runAsNonRoot,
  runAsUser,
  seccompProfile,
];
