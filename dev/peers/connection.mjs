// Where Redis is, for BullMQ, and times that programs of one machine can compare.

/** @returns BullMQ's connection options for REDIS_URL. */
export function connection() {
  const url = new URL(process.env.REDIS_URL);
  return { host: url.hostname, port: Number(url.port), password: decodeURIComponent(url.password) };
}

/** Milliseconds of the monotonic clock, which all processes share. */
export function nowMs() {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** One line of JSON, read by the bench. */
export function tell(figures) {
  console.log(JSON.stringify(figures));
}

/** The payload that Millwork's jobs have in the same measurement. */
export function payload() {
  return JSON.parse(process.env.PAYLOAD);
}

/** Stays until it is told to end: the bench reads a process's memory and processor time while it is there. */
export function stay() {
  setInterval(() => {}, 60_000);
  process.on('SIGTERM', () => process.exit(0));
}
