// latency.mjs work COUNT WARM_UP: a worker that tells after COUNT jobs how long they took from add to start, without the
// first WARM_UP of them.
// latency.mjs add COUNT PER_S: adds jobs at uneven moments, so that they do not keep step with timers of the queue.
import { Queue, Worker } from 'bullmq';
import { connection, nowMs, payload, stay, tell } from './connection.mjs';

const [what, count, number] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];

if (what === 'work') {
  const delays = [];
  const worker = new Worker(
    'latency',
    async (job) => {
      delays.push(nowMs() - job.data.sent);
      if (delays.length === count) tell(percentiles(delays.slice(number)));
    },
    { connection: connection(), concurrency: 50 },
  );
  worker.on('error', (error) => console.error(error.message));
  await worker.waitUntilReady();
  tell({ ready: true });
  stay();
} else {
  const queue = new Queue('latency', { connection: connection() });
  await queue.waitUntilReady();
  const data = payload();
  const began = nowMs();
  let next = began;
  for (let added = 0; added < count; added += 1) {
    const pause = next - nowMs();
    if (pause > 0) await new Promise((resume) => setTimeout(resume, pause));
    await queue.add('job', { ...data, sent: nowMs() });
    next += ((0.5 + Math.random()) * 1000) / number;
  }
  tell({ added: count });
  stay();
}

/** By nearest rank, as the bench takes them. */
function percentiles(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (percent) => sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)];
  return { jobs: sorted.length, p50_ms: at(50), p99_ms: at(99), max_ms: at(100) };
}
