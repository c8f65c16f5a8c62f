import winston from 'winston';

/** A logger for one component; `fields` are appended as JSON. */
export type Log = {
  debug(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
  child(component: string): Log;
};

export type LogOptions = { level?: 'debug' | 'info' | 'warn' | 'error'; component?: string };

/** Logs to standard error, one line each: time, level, component, message, fields. */
export function createLog(options: LogOptions = {}): Log {
  const { combine, timestamp, printf } = winston.format;
  const logger = winston.createLogger({
    level: options.level ?? 'info',
    format: combine(
      timestamp(),
      printf(({ timestamp: time, level, message, component, ...fields }) => {
        const rest = Object.keys(fields).length ? ` ${JSON.stringify(fields)}` : '';
        return `${String(time)} ${level.toUpperCase()} ${String(component)} ${String(message)}${rest}`;
      }),
    ),
    transports: [
      new winston.transports.Console({ stderrLevels: ['debug', 'info', 'warn', 'error'] }),
    ],
  });
  const withComponent = (component: string): Log => ({
    debug: (message, fields) => void logger.debug(message, { component, ...fields }),
    info: (message, fields) => void logger.info(message, { component, ...fields }),
    warn: (message, fields) => void logger.warn(message, { component, ...fields }),
    error: (message, fields) => void logger.error(message, { component, ...fields }),
    child: (name) => withComponent(`${component}.${name}`),
  });
  return withComponent(options.component ?? 'gantry');
}

/** For tests: says nothing. */
export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLog,
};

/** An error's message with those of its causes, for a log line or a condition. */
export function errorText(error: unknown): string {
  const parts: string[] = [];
  let current: unknown = error;
  for (let depth = 0; current !== undefined && depth < 5; depth++) {
    const text = current instanceof Error ? current.message : String(current);
    // A cause of the same words (gRPC puts a code before them) says nothing new.
    const words = text.replace(/^\d+ [A-Z_]+: /, '');
    if (!parts.at(-1)?.includes(words)) parts.push(text);
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join(': ');
}
