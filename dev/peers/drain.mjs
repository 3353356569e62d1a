// drain.mjs fill COUNT: adds jobs, a thousand a call.
// drain.mjs work COUNT CONCURRENCY: one worker that does nothing with each, and tells how long it took.
import { Queue, Worker } from 'bullmq';
import { connection, nowMs, payload, stay, tell } from './connection.mjs';

const BATCH = 1000;
const [what, count, concurrency] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];

if (what === 'fill') {
  const queue = new Queue('drain', { connection: connection() });
  const data = payload();
  const began = nowMs();
  for (let added = 0; added < count; added += BATCH) {
    const jobs = Array.from({ length: Math.min(BATCH, count - added) }, () => ({ name: 'job', data }));
    await queue.addBulk(jobs);
  }
  tell({ added: count, ms: nowMs() - began });
  stay();
} else {
  const began = nowMs();
  let [done, first] = [0, 0];
  const worker = new Worker('drain', async () => {}, { connection: connection(), concurrency });
  worker.on('completed', () => {
    first ||= nowMs();
    done += 1;
    if (done === count) {
      const ended = nowMs();
      tell({ done, ms: ended - first, ms_since_start: ended - began });
    }
  });
  worker.on('error', (error) => console.error(error.message));
  stay();
}
