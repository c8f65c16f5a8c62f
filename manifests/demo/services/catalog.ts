import { readFileSync } from 'node:fs';
import { Refusal, serve, setting } from './service.ts';

/** What is for sale stands in a ConfigMap; a changed one is seen without a restart. */
export type Product = { id: string; name: string; emoji: string; cents: number };

const file = setting('PRODUCTS_FILE');
const products = (): Product[] => JSON.parse(readFileSync(file, 'utf8')) as Product[];

serve('catalog', {
  'GET /products': products,
  'GET /product': ({ url }) => {
    const id = url.searchParams.get('id');
    const product = products().find((candidate) => candidate.id === id);
    if (!product) throw new Refusal(404, `there is no product "${id}"`);
    return product;
  },
});
