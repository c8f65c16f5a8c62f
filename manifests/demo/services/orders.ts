import { createHmac, randomUUID } from 'node:crypto';
import { Refusal, serve, setting } from './service.ts';

/** An order with a receipt that only the shop's key, a Secret, can have made. */
export type Order = {
  id: string;
  product: string;
  quantity: number;
  cents: number;
  placedAt: string;
  receipt: string;
};

const key = setting('RECEIPT_KEY');
/** The oldest are forgotten: this is a demonstration, not a shop. */
const MAX_ORDERS = 100;
const orders: Order[] = [];

serve('orders', {
  'GET /orders': () => orders.toReversed(),
  'POST /orders': ({ body }) => {
    const { product, quantity, cents } = (body ?? {}) as Partial<Order>;
    if (typeof product !== 'string' || typeof quantity !== 'number' || typeof cents !== 'number')
      throw new Refusal(400, 'an order needs product, quantity and cents');
    const id = randomUUID();
    const receipt = createHmac('sha256', key).update(`${id} ${product} ${cents}`).digest('hex');
    const placedAt = new Date().toISOString();
    const order: Order = { id, product, quantity, cents, placedAt, receipt };
    orders.push(order);
    if (orders.length > MAX_ORDERS) orders.shift();
    return order;
  },
});
