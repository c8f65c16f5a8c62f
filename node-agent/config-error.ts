/**
 * What the pod asks for cannot be prepared: a missing ConfigMap, a bad reference. The container waits
 * with `reason` until it can.
 */
export class ConfigError extends Error {
  readonly reason: string;
  constructor(message: string, reason = 'CreateContainerConfigError') {
    super(message);
    this.name = 'ConfigError';
    this.reason = reason;
  }
}
