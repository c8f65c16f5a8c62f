import { createHash } from 'node:crypto';
import { Refusal, serve, setting } from './service.ts';

/** The final price of some items. Deliberately laborious, so that load shows as CPU time. */
export type Quote = { cents: number; discountPercent: number; workMs: number };

const rounds = Number(setting('WORK_ROUNDS'));
const MAX_QUANTITY = 99;

serve('pricing', {
  'GET /quote': ({ url }): Quote => {
    const cents = Number(url.searchParams.get('cents'));
    const quantity = Number(url.searchParams.get('quantity') ?? 1);
    if (!Number.isInteger(cents) || cents <= 0) throw new Refusal(400, 'cents must be positive');
    if (!Number.isInteger(quantity) || quantity < 1 || quantity > MAX_QUANTITY)
      throw new Refusal(400, `quantity must be 1 to ${MAX_QUANTITY}`);
    const start = performance.now();
    const discountPercent = haggle(cents, quantity);
    const total = Math.round((cents * quantity * (100 - discountPercent)) / 100);
    return { cents: total, discountPercent, workMs: performance.now() - start };
  },
});

/** Between 0 and 15 percent: the same question always ends in the same bargain. */
function haggle(cents: number, quantity: number): number {
  let offer = Buffer.from(`${cents} ${quantity}`);
  for (let round = 0; round < rounds; round++) offer = createHash('sha256').update(offer).digest();
  return (offer[0] ?? 0) % 16;
}
