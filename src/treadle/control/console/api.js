// The manager's API as the console uses it (docs/control-api.md), and its token.
"use strict";

const API = "/api/v1";
const TOKEN_KEY = "treadle.token";

export const token = {
  get: () => sessionStorage.getItem(TOKEN_KEY),
  set: (text) => sessionStorage.setItem(TOKEN_KEY, text),
  forget: () => sessionStorage.removeItem(TOKEN_KEY),
};

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || `The manager answered ${status}.`);
    this.status = status;
    this.code = problem.code;
  }
}

async function send(path, options = {}) {
  const headers = { ...options.headers };
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  const answer = await fetch(path, { ...options, headers, cache: "no-store", redirect: "error" });
  if (answer.ok) return answer;
  throw new Refused(answer.status, await answer.json().catch(() => ({})));
}

const read = async (path) => (await send(path)).json();

function write(path, body) {
  return send(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

export const listRuns = (query) => read(`${API}/runs?${query}`);
export const readRun = (id) => read(`${API}/runs/${encodeURIComponent(id)}`);
export const readResult = (id) => read(`${API}/runs/${encodeURIComponent(id)}/result`);
export const readReady = () => read("/health/ready");
export const listRunners = (query) => read(`${API}/runners?${query}`);

// The answer is the command as it stands: one that cannot count is "rejected" already.
export const postCommand = async (id, type, payload) =>
  (await write(`${API}/runs/${encodeURIComponent(id)}/commands`, { type, payload })).json();

export const drainRunner = (runnerId, draining) =>
  write(`${API}/runners/${encodeURIComponent(runnerId)}/drain`, { draining });

export function openStream(id, afterSeq, signal) {
  const path = `${API}/runs/${encodeURIComponent(id)}/stream?afterSeq=${afterSeq}`;
  return send(path, { headers: { Accept: "text/event-stream" }, signal });
}

// Server-sent events of an answer; our own reader, since EventSource cannot send a token.
export async function* framesOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const frames = held.split("\n\n");
    held = frames.pop();
    for (const frame of frames) {
      let name = "message";
      const data = [];
      for (const line of frame.split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        if (line.startsWith("data: ")) data.push(line.slice(6));
      }
      if (data.length) yield { name, data: JSON.parse(data.join("\n")) };
    }
  }
}
