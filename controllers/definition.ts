import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import type { Random } from '#base/random.ts';
import type { Api } from '#client/api.ts';
import type { EventRecorder } from '#client/events.ts';
import type { Informers } from '#client/informer-factory.ts';

/** What the flags of the controller manager say, in our own units. */
export type ControllersConfig = {
  /** Pod networks come out of this range, one /24 (IPv4) per node. '' hands out none. */
  clusterCidr: string;
  serviceClusterIpRange: string;
  /** PEM of the CA that pods trust for the API server; '' publishes none. */
  rootCa: string;
  /** A node whose lease is older is not ready. */
  nodeMonitorGracePeriodMs: number;
  /** Finished pods above this number are removed, oldest first. */
  terminatedPodThreshold: number;
  horizontalPodAutoscalerSyncPeriodMs: number;
};

export const defaultControllersConfig: ControllersConfig = {
  clusterCidr: '10.244.0.0/16',
  serviceClusterIpRange: '10.96.0.0/16',
  rootCa: '',
  nodeMonitorGracePeriodMs: 40_000,
  terminatedPodThreshold: 12_500,
  horizontalPodAutoscalerSyncPeriodMs: 15_000,
};

/** All that a controller gets from outside. */
export type ControllerSetup = {
  api: Api;
  informers: Informers;
  /** Speaks events as the named component. */
  recorderOf(component: string): EventRecorder;
  config: ControllersConfig;
  log: Log;
  signal: AbortSignal;
  clock: Clock;
  random: Random;
};

/** A controller as it stands on the list: runs until the signal aborts. */
export type ControllerDefinition = {
  /** As in --controllers. */
  name: string;
  run(setup: ControllerSetup): Promise<void>;
};
