import { CONTROLLER_ROLES } from '#apiserver/bootstrap-controller-roles.ts';
import { type RoleTable, WRITE_EVENTS } from '#apiserver/bootstrap-roles.ts';
import { KUBELET_CLIENT_USER } from '#apiserver/pki.ts';

/**
 * Who has the roles that a cluster is born with, and the roles that our own components need
 * besides. Subjects: `User NAME`, `Group NAME`, `ServiceAccount NAMESPACE/NAME`.
 * Source: Kubernetes "Using RBAC Authorization", default roles and role bindings, 1.36.
 */
export type BindingTable = Readonly<
  Record<
    string,
    {
      /** Cluster role; the binding's own name when absent. */
      role?: string;
      subjects: readonly string[];
    }
  >
>;

const EVERYBODY = ['Group system:authenticated', 'Group system:unauthenticated'] as const;

/** Those of the controllers follow from bootstrap-controller-roles.ts. */
export const CLUSTER_ROLE_BINDINGS: BindingTable = {
  'cluster-admin': { subjects: ['Group system:masters'] },
  'system:basic-user': { subjects: ['Group system:authenticated'] },
  'system:discovery': { subjects: ['Group system:authenticated'] },
  'system:kube-controller-manager': { subjects: ['User system:kube-controller-manager'] },
  'system:kube-dns': { subjects: ['ServiceAccount kube-system/kube-dns'] },
  'system:kube-scheduler': { subjects: ['User system:kube-scheduler'] },
  'system:monitoring': { subjects: ['Group system:monitoring'] },
  // Nodes get their rights from the Node authorizer, object by object.
  'system:node': { subjects: [] },
  'system:node-proxier': { subjects: ['User system:kube-proxy'] },
  'system:public-info-viewer': { subjects: EVERYBODY },
  'system:service-account-issuer-discovery': { subjects: ['Group system:serviceaccounts'] },
  'system:volume-scheduler': { subjects: ['User system:kube-scheduler'] },

  // One process runs all controllers, as one user.
  'gantry:controllers': { subjects: ['User system:kube-controller-manager'] },
  // The agent is also the service proxy and the cluster DNS of its node.
  'gantry:node-network': { subjects: ['Group system:nodes'] },
  // A kubelet asks back what the API server may do: our own agent knows it by its certificate.
  'gantry:kubelet-client': { subjects: [`User ${KUBELET_CLIENT_USER}`] },
};

const allControllerRules = (): string[] => [...new Set(Object.values(CONTROLLER_ROLES).flat())];

/** Roles that Kubernetes leaves to add-ons or has no need of. */
export const GANTRY_CLUSTER_ROLES: RoleTable = {
  'gantry:controllers': [
    ...allControllerRules(),
    'get list | metrics.k8s.io | nodes pods',
    'create | storage.k8s.io | storageclasses',
    'get | core | nodes/metrics nodes/stats',
  ],
  // More than system:kubelet-api-admin: what a caller may see is decided before it is passed on.
  'gantry:kubelet-client': [
    '* | core | nodes/checkpoint nodes/configz nodes/healthz nodes/log nodes/metrics',
    '* | core | nodes/pods nodes/proxy nodes/stats nodes/statusz',
  ],
  'gantry:node-network': [
    'get list watch | core | endpoints namespaces nodes services',
    // Any pod may be whom a network policy lets speak with one of the node's own.
    'list watch | core | pods',
    'get list watch | discovery.k8s.io | endpointslices',
    'get list watch | networking.k8s.io | networkpolicies servicecidrs',
    WRITE_EVENTS,
  ],
  'system:aggregated-metrics-reader': {
    partOf: 'view',
    rules: ['get list watch | metrics.k8s.io | nodes pods'],
  },
};

type NamespacedRole = { namespace: string; name: string; rules: readonly string[] };

const LEADER_RULES = [
  'create get list update watch | coordination.k8s.io | leases',
  'create get list update watch | coordination.k8s.io | leasecandidates',
] as const;

export const NAMESPACED_ROLES: readonly NamespacedRole[] = [
  {
    namespace: 'kube-public',
    name: 'system:controller:bootstrap-signer',
    rules: [
      'get list watch | core | configmaps',
      'update | core | configmaps | cluster-info',
      WRITE_EVENTS,
    ],
  },
  {
    namespace: 'kube-system',
    name: 'extension-apiserver-authentication-reader',
    rules: ['get list watch | core | configmaps | extension-apiserver-authentication'],
  },
  {
    namespace: 'kube-system',
    name: 'system::leader-locking-kube-controller-manager',
    rules: LEADER_RULES,
  },
  { namespace: 'kube-system', name: 'system::leader-locking-kube-scheduler', rules: LEADER_RULES },
  {
    namespace: 'kube-system',
    name: 'system:controller:bootstrap-signer',
    rules: ['get list watch | core | secrets'],
  },
  {
    namespace: 'kube-system',
    name: 'system:controller:cloud-provider',
    rules: ['create get list watch | core | configmaps'],
  },
  {
    namespace: 'kube-system',
    name: 'system:controller:token-cleaner',
    rules: ['delete get list watch | core | secrets', WRITE_EVENTS],
  },
];

type NamespacedBinding = {
  namespace: string;
  name: string;
  /** Role of the same namespace; the binding's own name when absent. */
  role?: string;
  subjects: readonly string[];
};

export const ROLE_BINDINGS: readonly NamespacedBinding[] = [
  {
    namespace: 'kube-public',
    name: 'system:controller:bootstrap-signer',
    subjects: ['ServiceAccount kube-system/bootstrap-signer'],
  },
  {
    namespace: 'kube-system',
    name: 'system::extension-apiserver-authentication-reader',
    role: 'extension-apiserver-authentication-reader',
    subjects: ['User system:kube-controller-manager', 'User system:kube-scheduler'],
  },
  {
    namespace: 'kube-system',
    name: 'system::leader-locking-kube-controller-manager',
    subjects: [
      'User system:kube-controller-manager',
      'ServiceAccount kube-system/kube-controller-manager',
      'ServiceAccount kube-system/leader-election-controller',
    ],
  },
  {
    namespace: 'kube-system',
    name: 'system::leader-locking-kube-scheduler',
    subjects: ['User system:kube-scheduler', 'ServiceAccount kube-system/kube-scheduler'],
  },
  {
    namespace: 'kube-system',
    name: 'system:controller:bootstrap-signer',
    subjects: ['ServiceAccount kube-system/bootstrap-signer'],
  },
  {
    namespace: 'kube-system',
    name: 'system:controller:cloud-provider',
    subjects: ['ServiceAccount kube-system/cloud-provider'],
  },
  {
    namespace: 'kube-system',
    name: 'system:controller:token-cleaner',
    subjects: ['ServiceAccount kube-system/token-cleaner'],
  },
];
