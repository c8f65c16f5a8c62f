import { isIP } from 'node:net';
import { parseDuration } from '#api/time.ts';
import { isDns1123Label, isDns1123Subdomain } from '#api/validate-names.ts';

/** String formats that are checked; others mean nothing. Source: Kubernetes "Supported formats". */

const UUID = (version: string): RegExp =>
  new RegExp(`^[0-9a-f]{8}-?[0-9a-f]{4}-?${version}[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$`, 'i');

const DATE = /^(\d{4})-(\d{2})-(\d{2})$/;
const DATE_TIME =
  /^(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2}):(\d{2})(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})$/;
const MAC = /^(?:(?:[0-9a-f]{2}[:-]){5,7}[0-9a-f]{2}|(?:[0-9a-f]{4}\.){2,3}[0-9a-f]{4})$/i;
const HOSTNAME =
  /^(?=.{1,255}$)[a-zA-Z0-9\p{S}\p{L}](?:[-0-9a-zA-Z\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?(?:\.[a-zA-Z0-9\p{S}\p{L}](?:[-0-9a-zA-Z\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)*\.?$/u;
const EMAIL = /^(?:"[^"]*"|[^\s"@,<>()[\]\\:;]+)@[^\s@"<>(),:;\\]+$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const CARD =
  /^(?:4\d{12}(?:\d{3})?|5[1-5]\d{14}|6(?:011|5\d\d)\d{12}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|(?:2131|1800|35\d{3})\d{11})$/;
const RGB =
  /^rgb\(\s*(?:\d{1,2}|1\d\d|2[0-4]\d|25[0-5])\s*(?:,\s*(?:\d{1,2}|1\d\d|2[0-4]\d|25[0-5])\s*){2}\)$/;

function isRealDate(year: number, month: number, day: number): boolean {
  const date = new Date(Date.UTC(year, month - 1, day));
  return date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
}

function isDate(text: string): boolean {
  const match = DATE.exec(text);
  return match !== null && isRealDate(Number(match[1]), Number(match[2]), Number(match[3]));
}

function isDateTime(text: string): boolean {
  const match = DATE_TIME.exec(text);
  if (!match || !isRealDate(Number(match[1]), Number(match[2]), Number(match[3]))) return false;
  return Number(match[4]) < 24 && Number(match[5]) < 60 && Number(match[6]) < 60;
}

function isUri(text: string): boolean {
  if (text.startsWith('/')) return true;
  return /^[a-zA-Z][-+.a-zA-Z0-9]*:[^\s]*$/.test(text);
}

function isCidr(text: string): boolean {
  const [address = '', bits = '', ...more] = text.split('/');
  const family = isIP(address);
  if (family === 0 || more.length > 0 || !/^\d{1,3}$/.test(bits)) return false;
  return Number(bits) <= (family === 4 ? 32 : 128);
}

function isIsbn10(text: string): boolean {
  const digits = text.replace(/[\s-]+/g, '');
  if (!/^\d{9}[\dX]$/.test(digits)) return false;
  let sum = 0;
  for (let i = 0; i < 10; i++) sum += (10 - i) * (digits[i] === 'X' ? 10 : Number(digits[i]));
  return sum % 11 === 0;
}

function isIsbn13(text: string): boolean {
  const digits = text.replace(/[\s-]+/g, '');
  if (!/^\d{13}$/.test(digits)) return false;
  let sum = 0;
  for (let i = 0; i < 13; i++) sum += (i % 2 === 0 ? 1 : 3) * Number(digits[i]);
  return sum % 10 === 0;
}

/** Go's durations (`1h30m`) and `3 days`. */
const isDuration = (text: string): boolean =>
  parseDuration(text) !== undefined ||
  /^\d+\s*(?:ns|nano|us|µs|micro|ms|milli|s|sec|second|m|min|minute|h|hr|hour|d|day|w|wk|week)s?$/i.test(
    text,
  );

const FORMATS: ReadonlyMap<string, (text: string) => boolean> = new Map([
  ['bsonobjectid', (text: string) => /^[0-9a-f]{24}$/i.test(text)],
  ['uri', isUri],
  ['email', (text: string) => EMAIL.test(text)],
  ['hostname', (text: string) => HOSTNAME.test(text)],
  ['ipv4', (text: string) => isIP(text) === 4],
  ['ipv6', (text: string) => isIP(text) === 6],
  ['cidr', isCidr],
  ['mac', (text: string) => MAC.test(text)],
  ['uuid', (text: string) => UUID('[0-9a-f]').test(text)],
  ['uuid3', (text: string) => UUID('3').test(text)],
  ['uuid4', (text: string) => UUID('4').test(text)],
  ['uuid5', (text: string) => UUID('5').test(text)],
  ['isbn', (text: string) => isIsbn10(text) || isIsbn13(text)],
  ['isbn10', isIsbn10],
  ['isbn13', isIsbn13],
  ['creditcard', (text: string) => CARD.test(text.replace(/\D/g, ''))],
  ['ssn', (text: string) => /^\d{3}[- ]?\d{2}[- ]?\d{4}$/.test(text)],
  ['hexcolor', (text: string) => /^#?([0-9a-f]{3}|[0-9a-f]{6})$/i.test(text)],
  ['rgbcolor', (text: string) => RGB.test(text)],
  ['byte', (text: string) => BASE64.test(text)],
  ['password', () => true],
  ['date', isDate],
  ['duration', isDuration],
  ['datetime', isDateTime],
  ['date-time', isDateTime],
  ['k8s-short-name', (text: string) => isDns1123Label(text).length === 0],
  ['k8s-long-name', (text: string) => isDns1123Subdomain(text).length === 0],
]);

/** Formats of numbers, which have no texts to check. */
const NUMERIC = new Set([
  'int32',
  'int64',
  'uint32',
  'uint64',
  'float',
  'float32',
  'float64',
  'double',
]);

/** False: a warning is due when a definition uses it. */
export const isKnownFormat = (format: string): boolean =>
  FORMATS.has(format) || NUMERIC.has(format);

/** True for every text when the format is none that is checked. */
export const matchesFormat = (format: string, text: string): boolean =>
  FORMATS.get(format)?.(text) ?? true;

export const isTextFormat = (format: string): boolean => FORMATS.has(format);
