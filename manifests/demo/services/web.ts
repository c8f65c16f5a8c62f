import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Product } from './catalog.ts';
import type { Order } from './orders.ts';
import type { Quote } from './pricing.ts';
import { call, type Page, pod, Refusal, serve, version } from './service.ts';

/** The shop's front: a page, and an API that asks the other services by their DNS names. */
const CATALOG = process.env.CATALOG_URL ?? 'http://catalog';
const PRICING = process.env.PRICING_URL ?? 'http://pricing';
const ORDERS = process.env.ORDERS_URL ?? 'http://orders';

const page: Page = { html: readFileSync(join(import.meta.dirname, 'page.html'), 'utf8') };

type Priced = { product: Product; quote: Quote; pods: Record<string, string> };

async function price(id: string, quantity: number): Promise<Priced> {
  const product = await call<Product>(`${CATALOG}/product?id=${encodeURIComponent(id)}`);
  const question = `cents=${product.value.cents}&quantity=${quantity}`;
  const quote = await call<Quote>(`${PRICING}/quote?${question}`);
  const pods = { web: pod, catalog: product.servedBy, pricing: quote.servedBy };
  return { product: product.value, quote: quote.value, pods };
}

serve('web', {
  'GET /': () => page,
  'GET /api/shop': async () => {
    const [products, orders] = await Promise.all([
      call<Product[]>(`${CATALOG}/products`),
      call<Order[]>(`${ORDERS}/orders`),
    ]);
    const pods = { web: pod, catalog: products.servedBy, orders: orders.servedBy };
    return { version, products: products.value, orders: orders.value, pods };
  },
  'GET /api/price': ({ url }) =>
    price(url.searchParams.get('id') ?? '', Number(url.searchParams.get('quantity') ?? 1)),
  'POST /api/order': async ({ body }) => {
    const { id, quantity = 1 } = (body ?? {}) as { id?: string; quantity?: number };
    if (typeof id !== 'string') throw new Refusal(400, 'an order needs the id of a product');
    const priced = await price(id, quantity);
    const order = { product: priced.product.name, quantity, cents: priced.quote.cents };
    const placed = await call<Order>(`${ORDERS}/orders`, order);
    return { order: placed.value, pods: { ...priced.pods, orders: placed.servedBy } };
  },
});
