// The console of a manager: lists runs, follows one live, answers its agent, stops it.
//
// A client of the public API like any other. This file puts the parts together: the list, one run,
// the door that asks for a token.
"use strict";

import {
  framesOf, listRuns, openStream, postCommand, readReady, readResult, readRun, token,
} from "./api.js";
import {
  $, age, badgeOf, cell, element, LOOKS, notice, sayReachable, sayUnreachable, showBadge,
} from "./parts.js";
import { showQuestions } from "./questions.js";
import { refreshRunners } from "./runners.js";

const LIST_MS = 3000;
const PAGE = 50;
const MAX_ROWS = 2000;
const RETRY_MS = 1000;
const RUNNERS = "runners";
const ENDED = new Set(["completed", "failed", "blocked", "cancelled"]);
const AT_WORK = new Set(["running", "needs-input", "interrupting"]);

const state = { shown: PAGE, chosen: null, following: null, details: new Map() };

function failed(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) return askToken("The manager does not take this token.");
  if (error.status) notice(error.message);
  else sayUnreachable();
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
  const asked = run.pendingRequests.map((each) => each.summary).join("; ");
  row.append(
    cell(open),
    cell(badgeOf(run.status, LOOKS[run.status])),
    cell(asked || run.failureKind || "", "note"),
    cell(age(run.createdAt)),
  );
  return row;
}

// Runs that wait for a person, wherever they are in the list.
async function refreshWaiting() {
  const page = await listRuns(new URLSearchParams({ limit: PAGE, status: "needs-input" }));
  const count = page.items.length;
  $("waiting").hidden = count === 0;
  $("waiting").textContent = count === 1 ? "1 run waits for you" : `${count} runs wait for you`;
  $("waiting").href = count ? `#${page.items[0].id}` : "#";
  document.title = count ? `(${count}) Treadle` : "Treadle";
}

async function keepList() {
  for (;;) {
    if (!$("desk").hidden && !document.hidden) {
      try {
        if (location.hash.slice(1) === RUNNERS) await refreshRunners(failed);
        else await refreshList();
        await refreshWaiting();
        const ready = await readReady();
        showBadge($("health"), `ready, schema ${ready.schemaVersion}`, "good");
        if (state.chosen) await refreshRun(state.chosen);
        sayReachable();
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
  $("say").hidden = ended;
  $("steer").disabled = !AT_WORK.has(run.status);
  showQuestions(run, state.details, answer);
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
    if (result.failure) {
      parts.push(element("p", `What to do: ${result.failure.remedy}`, "remedy"));
      const again = result.failure.retryable ? "Trying again can help." : "Trying again as it is will not help.";
      parts.push(element("p", again, "quiet"));
    }
  }
  parts.push(element("pre", result.reply || (ENDED.has(result.status) ? "(no reply)" : "No reply yet.")));
  if (result.usage && result.usage.totalTokens) {
    parts.push(element("p", `${result.usage.totalTokens} tokens`));
  }
  $("result").replaceChildren(...parts);
}

function choose(id) {
  if (state.following) state.following.abort();
  const runners = id === RUNNERS;
  state.chosen = runners ? null : id || null;
  state.details = new Map();
  $("timeline").replaceChildren();
  $("questions").hidden = true;
  $("list").hidden = runners;
  $("fleet").hidden = !runners;
  $("run").hidden = !state.chosen;
  $("desk").className = state.chosen ? "one" : "";
  for (const row of $("runs").rows) {
    row.className = row.querySelector("button").textContent === id ? "chosen" : "";
  }
  if (runners) refreshRunners(failed).catch(failed);
  if (!state.chosen) return;
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
          await Promise.all([refreshRun(id), refreshList(), refreshWaiting()]);
          return;
        }
        seq = frame.data.seq;
        addEvent(frame.data);
        noteQuestion(id, frame.data);
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

// A question or its end shows at once, not only with the next look at the run.
function noteQuestion(id, event) {
  const phase = (event.payload || {}).phase || "";
  if (!phase.startsWith("server-request-")) return;
  if (phase === "server-request-opened") state.details.set(event.payload.requestId, event.payload);
  Promise.all([refreshRun(id), refreshList(), refreshWaiting()]).catch(failed);
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
  const summary = payload.summary && payload.summary.text ? payload.summary.text : payload.summary;
  const parts = [payload.phase, summary ? "" : payload.toolName, payload.failureKind, payload.decision, summary,
    payload.state || payload.terminalStatus || (event.type === "tool_call" ? "" : payload.status),
    payload.text || payload.message || payload.failureMessage || payload.reason];
  const told = parts.filter((part) => typeof part === "string" && part).join(" · ");
  return (told || JSON.stringify(payload)).slice(0, 300);
}

async function order(type, payload, question) {
  const id = state.chosen;
  if (!id || (question && !confirm(question))) return false;
  try {
    const command = await postCommand(id, type, payload);
    notice(command.state === "rejected" ? `${type}: ${command.failureMessage}` : "");
    await refreshRun(id);
    return command.state !== "rejected";
  } catch (error) {
    failed(error);
    return false;
  }
}

const answer = (requestId, decision, content) =>
  order("answer", { requestId, decision, ...(content === undefined ? {} : { content }) });

async function steer(event) {
  event.preventDefault();
  const prompt = $("words").value.trim();
  if (prompt && await order("steer", { prompt })) $("words").value = "";
}

// ---- the door ----

function askToken(reason) {
  token.forget();
  if (state.following) state.following.abort();
  $("desk").hidden = true;
  $("forget").hidden = true;
  $("pages").hidden = true;
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
      askToken(token.get() ? "The manager does not take this token." : "");
      return;
    }
    failed(error);
  }
  $("door").hidden = true;
  $("desk").hidden = false;
  $("forget").hidden = !token.get();
  $("pages").hidden = false;
  choose(location.hash.slice(1));
}

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set($("token").value.trim());
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
$("gone").addEventListener("change", () => refreshRunners(failed).catch(failed));
$("say").addEventListener("submit", steer);
$("cancel").addEventListener("click", () => order("cancel", {}, "Cancel this run for good?"));
window.addEventListener("hashchange", () => {
  if (!$("desk").hidden) choose(location.hash.slice(1));
});

enter().then(keepList);
