// A front as a team would write it: POST /jobs is checked by a schema, stored if DATABASE_URL is set, and added to a queue.
import Fastify from 'fastify';
import { Queue } from 'bullmq';
import pg from 'pg';
import { connection } from './connection.mjs';

const queue = new Queue('front', { connection: connection() });
await queue.waitUntilReady();

const database = process.env.DATABASE_URL
  ? new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 })
  : undefined;
await database?.query(
  `create table if not exists requests (
     id bigint generated always as identity primary key, kind text not null, payload jsonb not null,
     created_at timestamptz not null default now())`,
);

const body = {
  type: 'object',
  required: ['kind', 'payload'],
  properties: {
    kind: { type: 'string', maxLength: 64 },
    payload: { type: 'object' },
  },
};
const accepted = {
  type: 'object',
  properties: { id: { type: 'string' }, state: { type: 'string' } },
};

const app = Fastify({ logger: false });
app.get('/ready', async () => ({}));
app.post('/jobs', { schema: { body, response: { 202: accepted } } }, async (request, reply) => {
  const { kind, payload } = request.body;
  if (database) {
    const values = [kind, payload];
    await database.query({ name: 'store', text: 'insert into requests (kind, payload) values ($1, $2)', values });
  }
  const job = await queue.add(kind, payload, { attempts: 5, backoff: { type: 'exponential', delay: 1000 } });
  reply.code(202);
  return { id: job.id, state: 'queued' };
});

process.on('SIGTERM', () => process.exit(0));
await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) });
