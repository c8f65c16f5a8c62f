import type { CustomResourceDefinition } from '#api/apiextensions/definition-types.ts';

const ANNOTATION = 'api-approved.kubernetes.io';
const POLICY = 'https://github.com/kubernetes/enhancements/pull/1111';

export type Approval = {
  state: 'invalid' | 'missing' | 'approved' | 'bypassed';
  message: string;
};

/** Groups of the Kubernetes community, whose APIs go through a review. */
const isProtected = (group: string): boolean => /(^|\.)(k8s|kubernetes)\.io$/.test(group);

/** Undefined for groups that need no approval. Source: api-approved.kubernetes.io annotation. */
export function approvalOf({ metadata, spec }: CustomResourceDefinition): Approval | undefined {
  if (!isProtected(spec.group)) return undefined;
  const text = metadata.annotations?.[ANNOTATION] ?? '';
  if (text === '') {
    return {
      state: 'missing',
      message: `protected groups must have approval annotation "${ANNOTATION}", see ${POLICY}`,
    };
  }
  if (text.startsWith('unapproved')) {
    return { state: 'bypassed', message: `not approved: ${JSON.stringify(text)}` };
  }
  if (/^[a-zA-Z][-+.\w]*:\/\/[^/\s]+/.test(text)) {
    return { state: 'approved', message: `approved in ${text}` };
  }
  return {
    state: 'invalid',
    message: `protected groups must have approval annotation "${ANNOTATION}" with either a URL or a reason starting with "unapproved", see ${POLICY}`,
  };
}

export const APPROVAL_PATH = `metadata.annotations[${ANNOTATION}]`;
export const approvalText = ({ metadata }: CustomResourceDefinition): string =>
  metadata.annotations?.[ANNOTATION] ?? '';
