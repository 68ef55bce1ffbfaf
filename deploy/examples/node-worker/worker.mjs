// A worker that follows broker/protocol/README.md, "Worker, in any language". It needs Redis, and nothing of ours.
import { setTimeout as pause } from 'node:timers/promises';
import { hostname } from 'node:os';
import { createClient } from 'redis';

const env = process.env;
const number = (name, fallback) => Number(env[name] || fallback);
const [namespace, run] = [env.BROKER_NAMESPACE || 'cb', env.BROKER_RUN_ID];
const executions = (env.BROKER_EXECUTION_IDS || env.BROKER_EXECUTION_ID || '').split(/\s+/).filter(Boolean);
const workerId = env.BROKER_WORKER_ID || `node-${hostname()}-${process.pid}`;
const start = number('BROKER_START', 1);
if (!run || !executions.length) throw new Error('BROKER_RUN_ID and BROKER_EXECUTION_IDS say what is to be run');

const key = (name) => `${namespace}:{${run}}:${name}`;
const channel = (id) => key(`cancel:${id}`);
const held = new Map(); // execution id → { controller, cancelId, seq, ended }, from before SUBSCRIBE until the end is said

// Both connections come back by themselves, and the subscriber subscribes again to everything.
const socket = { reconnectStrategy: (attempt) => Math.min(20 * 2 ** attempt, 1000) };
const commands = createClient({ url: env.BROKER_REDIS_URL || 'redis://127.0.0.1:6379/0', socket });
const subscriber = commands.duplicate();
for (const client of [commands, subscriber]) client.on('error', (error) => console.error(`redis: ${error.message}`));
// `ready` comes when every subscription is confirmed: what was published meanwhile is found in the intents.
subscriber.on('ready', () => lookAtAll());

// Everything that is said is idempotent, so it is said until Redis has taken it.
async function insist(command) {
  for (;;) {
    try {
      return await command();
    } catch (error) {
      console.error(`again: ${error.message}`);
      await pause(100);
    }
  }
}

const say = (type, id, fields = {}) => {
  const event = { v: 1, type, run_id: run, execution_id: id, worker_id: workerId, start, ...fields };
  event.occurred_at = new Date().toISOString();
  return insist(() => commands.xAdd(`${namespace}:events`, '*', { event: JSON.stringify(event) }));
};
const ack = (id, one, disposition, fields) =>
  say('execution.ack', id, { cancel_id: one.cancelId, seq: ++one.seq, disposition, ...fields });
const intentOf = (id) => insist(() => commands.hGet(key('intents'), id));

// A message, a confirmation and the heartbeat all end here: they are hints, the intent is the truth.
async function look(id) {
  const one = held.get(id);
  const intent = await intentOf(id);
  if (!intent || !one?.running) return;
  const cancelId = intent.split('|')[0];
  if (one.cancelId === cancelId) return one.received && ack(id, one, 'received'); // the first may have been lost
  one.cancelId = cancelId;
  one.controller.abort();
  setTimeout(() => (one.received = one.running) && ack(id, one, 'received'), 50);
}
const lookAtAll = () => Promise.all([...held.keys()].map(look));

let epoch = null;
async function beat() {
  const now = await insist(() => commands.hGet(key('run'), 'epoch'));
  if (now === epoch) return;
  epoch = now;
  await lookAtAll();
}

async function execute(id, body) {
  const one = { controller: new AbortController(), cancelId: null, seq: 0, running: false };
  held.set(id, one);
  await insist(() => subscriber.subscribe(channel(id), () => look(id))); // answered by the confirmation
  if (!(await intentOf(id))) {
    one.running = true;
    await say('execution.started', id);
    const { signal } = one.controller;
    const outcome = await body(id, signal).then(() => 'succeeded', () => (signal.aborted ? 'cancelled' : 'failed'));
    one.running = false;
    if (one.cancelId) await ack(id, one, outcome === 'cancelled' ? 'stopped' : 'ended_itself', { outcome });
    await say(`execution.${outcome === 'succeeded' ? 'completed' : outcome}`, id);
  } // else it was cancelled before it began: there is nothing to run and nothing to say
  held.delete(id);
  await insist(() => subscriber.unsubscribe(channel(id)));
}

// The work itself, here none: it waits until it may end and, once it is cancelled, until it may stop.
const isIn = (set, id) => insist(() => commands.sIsMember(set, id));
async function work(id, signal) {
  const [endKey, stopKey] = [env.BROKER_END_KEY, env.BROKER_STOP_KEY];
  while (!signal.aborted && !(endKey && (await isIn(endKey, id)))) await pause(20);
  while (signal.aborted && stopKey && !(await isIn(stopKey, id))) await pause(20);
  signal.throwIfAborted();
}

await Promise.all([commands.connect(), subscriber.connect()]);
const heart = setInterval(beat, number('BROKER_HEARTBEAT_MS', 5000) * (0.9 + 0.1 * Math.random()));
await Promise.all(executions.map((id) => execute(id, work)));
clearInterval(heart);
await Promise.all([commands.close(), subscriber.close()]);
