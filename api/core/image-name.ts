/** The tag of an image reference: `latest` where neither tag nor digest is given. */
export function imageTag(image: string): string {
  if (image === '' || image.includes('@')) return '';
  const colon = image.lastIndexOf(':');
  // A colon before the last slash belongs to the registry's port.
  return colon > image.lastIndexOf('/') ? image.slice(colon + 1) : 'latest';
}

/** Images that move are asked for every time. Source: core/v1 Container.imagePullPolicy. */
export const imagePullPolicyFor = (image: string | undefined): 'Always' | 'IfNotPresent' =>
  imageTag(image ?? '') === 'latest' ? 'Always' : 'IfNotPresent';
