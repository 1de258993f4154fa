// Drives the TypeScript package of Codex as a test told it to, and prints what came of it as JSON.
//
//   node codex_sdk.mjs FOLDER < JOB
//
// FOLDER holds node_modules. JOB is JSON: `codex` and `thread` are options of the package, `resume` a
// thread's id or null, `turns` the turns to run one after another, each {input, options, abortAt}: with
// `abortAt` the turn is given up at the first event of that type.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const folder = path.resolve(process.argv[2]);
const found = createRequire(path.join(folder, "x.js")).resolve.paths("@openai/codex-sdk")[0];
const { Codex } = await import(pathToFileURL(path.join(found, "@openai/codex-sdk/dist/index.js")));

let text = "";
for await (const chunk of process.stdin) text += chunk;
const job = JSON.parse(text);

const codex = new Codex(job.codex);
const thread = job.resume ? codex.resumeThread(job.resume, job.thread) : codex.startThread(job.thread);
const turns = [];
for (const { input, options = {}, abortAt } of job.turns) {
  const giveUp = new AbortController();
  const events = [];
  let error = null;
  try {
    const streamed = await thread.runStreamed(input, { ...options, signal: giveUp.signal });
    for await (const event of streamed.events) {
      events.push(event);
      if (event.type === abortAt) giveUp.abort();
    }
  } catch (thrown) {
    error = `${thrown.name}: ${thrown.message}`;
  }
  turns.push({ events, error });
}
console.log(JSON.stringify({ threadId: thread.id, turns }));
