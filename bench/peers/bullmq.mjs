// BullMQ on Redis: `node bullmq.mjs worker`, `… producer` and `… puller`; see producer.py for the conversation.
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { Job, Queue, Worker } from 'bullmq'
import IORedis from 'ioredis'
import { Pool } from 'undici'

const BULK = 1000
const AT_ONCE = 64
const LINGER_MS = 1000
const connection = new IORedis({
  host: '127.0.0.1',
  port: Number(process.env.BENCH_REDIS),
  maxRetriesPerRequest: null,
})
const defaultJobOptions = { removeOnComplete: true, removeOnFail: true }

function work() {
  const pools = new Map()
  const call = async ({ data: { url, id, body } }) => {
    const { origin, pathname } = new URL(url)
    if (!pools.has(origin)) pools.set(origin, new Pool(origin, { connections: 100 }))
    const answer = await pools.get(origin).request({
      path: pathname,
      method: 'POST',
      headers: { 'content-type': 'application/json', 'webhook-id': id },
      body: JSON.stringify(body),
    })
    await answer.body.dump()
    if (answer.statusCode !== 200) throw new Error(`${answer.statusCode} from the sink`)
  }
  const worker = new Worker('bench', call, { connection, concurrency: 100 })
  process.on('SIGTERM', async () => {
    await worker.close()
    process.exit(0)
  })
}

const wish = (url, [id, due, , body]) => ({
  name: 'call',
  data: { url, id, body },
  opts: { delay: Math.max(0, due - Date.now()) },
})

async function produce({ mode, url, queue: name, jobs }) {
  const queue = new Queue(name, { connection, defaultJobOptions })
  await queue.waitUntilReady()
  const began = performance.now()
  if (mode === 'single') {
    const waiting = jobs[Symbol.iterator]()
    const client = async () => {
      for (const one of waiting) {
        const { name, data, opts } = wish(url, one)
        await queue.add(name, data, opts)
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, client))
  } else if (mode === 'pace') {
    const added = []
    for (const one of jobs) {
      await sleep(Math.max(0, one[2] - Date.now()))
      const { name, data, opts } = wish(url, one)
      added.push(queue.add(name, data, opts))
    }
    await Promise.all(added)
  } else {
    for (let n = 0; n < jobs.length; n += BULK) {
      await queue.addBulk(jobs.slice(n, n + BULK).map((one) => wish(url, one)))
    }
  }
  const took_s = (performance.now() - began) / 1000
  await queue.close()
  return { took_s }
}

async function pull(request) {
  const workers = Array.from({ length: request.workers ?? 1 }, () => new Worker(request.queue, null, { connection }))
  await Promise.all(workers.map((worker) => worker.waitUntilReady()))
  try {
    return await (request.mode === 'fetch' ? fetchAll(workers, request) : handOver(workers[0], request))
  } finally {
    await Promise.all(workers.map((worker) => worker.close(true)))
  }
}

// https://docs.bullmq.io/patterns/manually-fetching-jobs: each commit brings the worker's next job along.
async function fetchAll(workers, { count }) {
  const ids = []
  const began = performance.now()
  await new Promise((resolve, reject) => {
    const loop = async (worker) => {
      const token = worker.id
      for (let job; !worker.closing; ) {
        job ??= await next(worker, token)
        if (!job) break
        const [data, id] = (await job.moveToCompleted('done', token)) ?? []
        ids.push(job.data.id)
        if (ids.length === count) resolve()
        job = data && Job.fromJSON(worker, data, id)
      }
    }
    for (const worker of workers) loop(worker).catch(reject)
  })
  const took_s = (performance.now() - began) / 1000
  await sleep(LINGER_MS)
  return { ids, took_s }
}

async function handOver(worker, { queue: name, jobs, waits_ms }) {
  const queue = new Queue(name, { connection, defaultJobOptions })
  const token = worker.id
  const handed_ms = []
  for (const one of jobs) {
    const waiting = next(worker, token).then((job) => ({ job, had: performance.now() }))
    await sleep(waits_ms)
    const { name, data, opts } = wish('', one)
    const began = performance.now()
    await queue.add(name, data, opts)
    const { job, had } = await waiting
    if (job.data.id !== data.id) throw new Error(`${job.data.id} instead of ${data.id}`)
    handed_ms.push(had - began)
    await job.moveToCompleted('done', token, false)
  }
  await queue.close()
  return { handed_ms }
}

async function next(worker, token) {
  let job
  while (!job && !worker.closing) job = await worker.getNextJob(token)
  return job
}

async function serve(act) {
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await act(JSON.parse(line)))}\n`)
  }
  process.exit(0)
}

const role = process.argv[2]
if (role === 'worker') work()
else await serve(role === 'puller' ? pull : produce)
