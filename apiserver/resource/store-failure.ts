import { errorText } from '#base/log.ts';
import { failure, type StatusError } from '#api/status.ts';
import { StoreUnavailableError } from '#apiserver/store/store.ts';

/** What a client is told when the store cannot be read or written; undefined for other errors. */
export function storeFailure(error: unknown): StatusError | undefined {
  if (!(error instanceof StoreUnavailableError)) return undefined;
  const text = `the store is not available: ${errorText(error)}`;
  return failure(503, 'ServiceUnavailable', text, { retryAfterSeconds: 1 });
}
