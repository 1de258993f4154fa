// The page of runners: who takes runs, and draining one.
"use strict";

import { drainRunner, listRunners } from "./api.js";
import { $, badgeOf, button, cell, element, span } from "./parts.js";

const GONE_MS = 60000;
const LIMIT = 200;
const LOOKS = { busy: "busy", idle: "good", draining: "wait", gone: "" };

export async function refreshRunners(failed) {
  const page = await listRunners(new URLSearchParams({ limit: LIMIT }));
  const runners = page.items.filter((each) => $("gone").checked || stateOf(each) !== "gone");
  $("no-runners").hidden = runners.length > 0;
  $("runners").replaceChildren(...runners.map((each) => rowOf(each, failed)));
}

function stateOf(runner) {
  if (runner.goneAt) return "gone";
  if (runner.silentMs >= GONE_MS && !runner.heldRuns) return "gone";
  if (runner.draining) return "draining";
  return runner.heldRuns ? "busy" : "idle";
}

function rowOf(runner, failed) {
  const row = element("tr");
  const state = stateOf(runner);
  const act = async () => {
    const question = `Let ${runner.id} end its turns and take no more runs?`;
    if (!runner.draining && !confirm(question)) return;
    try {
      await drainRunner(runner.id, !runner.draining);
      await refreshRunners(failed);
    } catch (error) {
      failed(error);
    }
  };
  row.append(
    cell(element("code", runner.id)),
    cell(badgeOf(state, LOOKS[state])),
    cell(String(runner.heldRuns)),
    cell(runner.backendProfile || "any"),
    cell(runner.placement),
    cell(`${span(runner.silentMs)} ago`),
    cell(button(runner.draining ? "Take runs again" : "Drain", act)),
  );
  return row;
}
