/** Who makes a request, after authentication. Source: authentication.k8s.io/v1 UserInfo. */
export type UserInfo = {
  name: string;
  uid?: string;
  groups: readonly string[];
  extra?: Readonly<Record<string, readonly string[]>>;
};
