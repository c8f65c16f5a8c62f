/** A logger for one component; `fields` are appended as JSON. */
export type Log = {
  debug(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
  child(component: string): Log;
};

/** The gravest first: a log writes its own level and those before it. */
const LEVELS = ['error', 'warn', 'info', 'debug'] as const;
type Level = (typeof LEVELS)[number];

export type LogOptions = { level?: Level; component?: string };

/** Logs to standard error, one line each: time, level, component, message, fields. */
export function createLog({ level = 'info', component = 'gantry' }: LogOptions = {}): Log {
  const at = (own: Level): Log[Level] => {
    if (LEVELS.indexOf(own) > LEVELS.indexOf(level)) return () => {};
    return (message, fields = {}) => {
      const rest = Object.keys(fields).length > 0 ? ` ${JSON.stringify(fields)}` : '';
      const time = new Date().toISOString();
      process.stderr.write(`${time} ${own.toUpperCase()} ${component} ${message}${rest}\n`);
    };
  };
  return {
    error: at('error'),
    warn: at('warn'),
    info: at('info'),
    debug: at('debug'),
    child: (name) => createLog({ level, component: `${component}.${name}` }),
  };
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
