// The console of a manager: lists runs, follows one live, interrupts and cancels.
//
// A client of the public API like any other (docs/control-api.md). Everything that comes from the
// API enters the page as text, never as markup.
"use strict";

const API = "/api/v1";
const TOKEN_KEY = "treadle.token";
const LIST_MS = 3000;
const PAGE = 50;
const MAX_ROWS = 2000;
const RETRY_MS = 1000;
const ENDED = new Set(["completed", "failed", "blocked", "cancelled"]);
const LOOKS = {
  completed: "good", failed: "bad", blocked: "bad", running: "busy", claimed: "busy",
  interrupting: "wait", pending: "wait",
};

const $ = (id) => document.getElementById(id);
const state = { runs: new Map(), shown: PAGE, chosen: null, following: null };

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || `The manager answered ${status}.`);
    this.status = status;
    this.code = problem.code;
  }
}

// ---- the API ----

async function send(path, options = {}) {
  const headers = { ...options.headers };
  const token = sessionStorage.getItem(TOKEN_KEY);
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers, cache: "no-store", redirect: "error" });
  if (answer.ok) return answer;
  throw new Refused(answer.status, await answer.json().catch(() => ({})));
}

const read = async (path) => (await send(path)).json();
const listRuns = (query) => read(`${API}/runs?${query}`);
const readRun = (id) => read(`${API}/runs/${encodeURIComponent(id)}`);
const readResult = (id) => read(`${API}/runs/${encodeURIComponent(id)}/result`);
const readReady = () => read("/health/ready");

function postCommand(id, type, payload) {
  return send(`${API}/runs/${encodeURIComponent(id)}/commands`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ type, payload }),
  });
}

function openStream(id, afterSeq, signal) {
  const path = `${API}/runs/${encodeURIComponent(id)}/stream?afterSeq=${afterSeq}`;
  return send(path, { headers: { Accept: "text/event-stream" }, signal });
}

// Server-sent events of an answer; our own reader, since EventSource cannot send a token.
async function* framesOf(answer) {
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

// ---- small parts of the page ----

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function showBadge(badge, text, look) {
  badge.textContent = text;
  badge.className = `badge ${look || ""}`;
}

function age(stamp) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(stamp)) / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

function notice(text) {
  $("notice").textContent = text || "";
}

function failed(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) return askToken("The manager does not take this token.");
  notice(error.status ? error.message : "The manager does not answer; trying again.");
}

// ---- the list of runs ----

async function refreshList() {
  const runs = [];
  let cursor = "";
  while (runs.length < state.shown) {
    const query = new URLSearchParams({ limit: PAGE });
    if (cursor) query.set("cursor", cursor);
    if ($("status").value) query.set("status", $("status").value);
    const page = await listRuns(query);
    runs.push(...page.items);
    cursor = page.nextCursor;
    if (!cursor) break;
  }
  state.runs = new Map(runs.map((run) => [run.id, run]));
  $("more").hidden = !cursor;
  $("empty").hidden = runs.length > 0;
  const focused = $("runs").contains(document.activeElement) && document.activeElement.textContent;
  $("runs").replaceChildren(...runs.map(rowOf));
  if (focused) focusRun(focused);
}

// The rows are new ones; who works with the keyboard stays where they were.
function focusRun(id) {
  for (const row of $("runs").rows) {
    const open = row.querySelector("button");
    if (open.textContent === id) open.focus();
  }
}

function rowOf(run) {
  const row = element("tr", undefined, run.id === state.chosen ? "chosen" : "");
  const open = element("button", run.id);
  open.type = "button";
  open.addEventListener("click", () => { location.hash = run.id; });
  const name = element("td");
  name.append(open);
  const badge = element("span");
  showBadge(badge, run.status, LOOKS[run.status]);
  const status = element("td");
  status.append(badge);
  row.append(name, status, element("td", run.failureKind || ""), element("td", age(run.createdAt)));
  return row;
}

async function keepList() {
  for (;;) {
    if (!$("desk").hidden && !document.hidden) {
      try {
        await refreshList();
        const ready = await readReady();
        showBadge($("health"), `ready, schema ${ready.schemaVersion}`, "good");
        if (state.chosen) await refreshRun(state.chosen);
        notice("");
      } catch (error) {
        showBadge($("health"), "not ready", "bad");
        failed(error);
      }
    }
    await new Promise((wake) => setTimeout(wake, LIST_MS));
  }
}

// ---- one run ----

async function refreshRun(id) {
  const [run, result] = await Promise.all([readRun(id), readResult(id)]);
  if (id !== state.chosen) return;
  showBadge($("state"), run.status, LOOKS[run.status]);
  const ended = ENDED.has(run.status);
  $("cancel").disabled = ended;
  $("interrupt").disabled = ended || run.cmdLast === 0;
  const lease = run.leaseRemainingMs === null
    ? "none" : `${(run.leaseRemainingMs / 1000).toFixed(1)} s left`;
  showFacts({
    "Profile": run.backendProfile,
    "Workspace": run.workspaceRef ? run.workspaceRef.path : "",
    "Thread": run.sessionRef.threadId || "",
    "Runner": run.claimedBy ? `${run.claimedBy} (epoch ${run.epoch}, attempt ${run.attempt} of ${run.maxAttempts})` : "nobody",
    "Lease": lease,
    "Log": `${run.lastSeq} events, ${run.cmdLast} commands`,
    "Created": `${run.createdAt} (${age(run.createdAt)} ago)`,
  });
  showResult(result);
}

function showFacts(facts) {
  const parts = [];
  for (const [name, value] of Object.entries(facts)) {
    if (value) parts.push(element("dt", name), element("dd", value));
  }
  $("facts").replaceChildren(...parts);
}

function showResult(result) {
  const parts = [];
  if (result.failureKind) {
    parts.push(element("p", [result.failureKind, result.failureMessage].filter(Boolean).join(": "), "bad"));
    if (result.failure) parts.push(element("p", result.failure.remedy));
  }
  parts.push(element("pre", result.reply || (ENDED.has(result.status) ? "(no reply)" : "No reply yet.")));
  if (result.usage && result.usage.totalTokens) {
    parts.push(element("p", `${result.usage.totalTokens} tokens`));
  }
  $("result").replaceChildren(...parts);
}

function choose(id) {
  if (state.following) state.following.abort();
  state.chosen = id || null;
  $("timeline").replaceChildren();
  $("run").hidden = !id;
  for (const row of $("runs").rows) {
    row.className = row.querySelector("button").textContent === id ? "chosen" : "";
  }
  if (!id) return;
  $("title").textContent = `Run ${id}`;
  state.following = new AbortController();
  refreshRun(id).catch(failed);
  follow(id, state.following.signal).catch(failed);
}

// Reads until the run ends; a stream that closes without its end is opened again where it stopped.
async function follow(id, signal) {
  let seq = 0;
  while (!signal.aborted) {
    try {
      showBadge($("live"), "connecting", "wait");
      const answer = await openStream(id, seq, signal);
      showBadge($("live"), "live", "good");
      for await (const frame of framesOf(answer)) {
        if (signal.aborted) return;
        if (frame.name === "end") {
          showBadge($("live"), `ended: ${frame.data.status}`, LOOKS[frame.data.status]);
          await refreshRun(id);
          return;
        }
        seq = frame.data.seq;
        addEvent(frame.data);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.status && error.status !== 503) {
        showBadge($("live"), "closed", "bad");
        throw error;
      }
    }
    if (signal.aborted) return;
    showBadge($("live"), "reconnecting", "wait");
    await new Promise((wake) => setTimeout(wake, RETRY_MS));
  }
}

function addEvent(event) {
  const line = element("li");
  const payload = event.payload || {};
  const look = event.type === "error" ? "bad" : "";
  const more = element("details");
  more.append(element("summary", summaryOf(event)));
  // Written out only when somebody opens it: logs are long.
  more.addEventListener("toggle", () => {
    if (more.open && more.childElementCount === 1) {
      more.append(element("pre", JSON.stringify(payload, null, 2)));
    }
  });
  line.append(
    element("span", event.seq, "seq"),
    element("time", event.at.slice(11, 19)),
    element("span", event.type, look),
    more,
  );
  const list = $("timeline");
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 40;
  list.append(line);
  if (list.childElementCount > MAX_ROWS) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function summaryOf(event) {
  const payload = event.payload || {};
  const parts = [payload.phase, payload.name || payload.tool, payload.failureKind,
    payload.command, payload.text || payload.message || payload.delta || payload.reason];
  const told = parts.filter((part) => typeof part === "string" && part).join(" · ");
  return (told || JSON.stringify(payload)).slice(0, 300);
}

async function order(type, payload, question) {
  const id = state.chosen;
  if (!id || (question && !confirm(question))) return;
  try {
    await postCommand(id, type, payload);
    await refreshRun(id);
    notice("");
  } catch (error) {
    failed(error);
  }
}

// ---- the door ----

function askToken(reason) {
  sessionStorage.removeItem(TOKEN_KEY);
  if (state.following) state.following.abort();
  $("desk").hidden = true;
  $("forget").hidden = true;
  $("door").hidden = false;
  showBadge($("health"), "locked", "wait");
  notice(reason);
  $("token").focus();
}

async function enter() {
  try {
    await refreshList();
  } catch (error) {
    if (error.status === 401) {
      askToken(sessionStorage.getItem(TOKEN_KEY) ? "The manager does not take this token." : "");
      return;
    }
    failed(error);
  }
  $("door").hidden = true;
  $("desk").hidden = false;
  $("forget").hidden = !sessionStorage.getItem(TOKEN_KEY);
  choose(location.hash.slice(1));
}

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN_KEY, $("token").value.trim());
  $("token").value = "";
  notice("");
  enter();
});
$("forget").addEventListener("click", () => askToken(""));
$("more").addEventListener("click", () => {
  state.shown += PAGE;
  refreshList().catch(failed);
});
$("status").addEventListener("change", () => {
  state.shown = PAGE;
  refreshList().catch(failed);
});
$("interrupt").addEventListener("click", () => order("interrupt", { reason: "console" }));
$("cancel").addEventListener("click", () => order("cancel", {}, "Cancel this run for good?"));
window.addEventListener("hashchange", () => {
  if (!$("desk").hidden) choose(location.hash.slice(1));
});

enter().then(keepList);
