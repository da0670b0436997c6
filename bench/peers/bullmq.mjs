// BullMQ on Redis: `node bullmq.mjs worker` and `node bullmq.mjs producer`; see producer.py for the conversation.
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { Queue, Worker } from 'bullmq'
import IORedis from 'ioredis'
import { Pool } from 'undici'

const BULK = 1000
const AT_ONCE = 64
const connection = new IORedis({
  host: '127.0.0.1',
  port: Number(process.env.BENCH_REDIS),
  maxRetriesPerRequest: null,
})

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

async function produce() {
  const queue = new Queue('bench', {
    connection,
    defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
  })
  const job = (url, [id, due, , body]) => ({
    name: 'call',
    data: { url, id, body },
    opts: { delay: Math.max(0, due - Date.now()) },
  })
  for await (const line of createInterface({ input: process.stdin })) {
    const { mode, url, jobs } = JSON.parse(line)
    const began = performance.now()
    if (mode === 'single') {
      const waiting = jobs[Symbol.iterator]()
      const client = async () => {
        for (const one of waiting) {
          const { name, data, opts } = job(url, one)
          await queue.add(name, data, opts)
        }
      }
      await Promise.all(Array.from({ length: AT_ONCE }, client))
    } else if (mode === 'pace') {
      const added = []
      for (const one of jobs) {
        await sleep(Math.max(0, one[2] - Date.now()))
        const { name, data, opts } = job(url, one)
        added.push(queue.add(name, data, opts))
      }
      await Promise.all(added)
    } else {
      for (let n = 0; n < jobs.length; n += BULK) {
        await queue.addBulk(jobs.slice(n, n + BULK).map((one) => job(url, one)))
      }
    }
    process.stdout.write(`${JSON.stringify({ took_s: (performance.now() - began) / 1000 })}\n`)
  }
  process.exit(0)
}

if (process.argv[2] === 'worker') work()
else await produce()
