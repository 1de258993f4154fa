// What a run's agent asks, and the buttons that decide it.
"use strict";

import { $, button, element, span } from "./parts.js";

const NAMES = {
  accept: "Accept", acceptForSession: "Accept for the session", decline: "Decline", cancel: "Cancel turn",
  acceptWithExecpolicyAmendment: "Accept and remember", applyNetworkPolicyAmendment: "Apply to the network policy",
};
const KINDS = {
  command: "Run a command?", fileChange: "Change files?", permissions: "Allow more?",
  userInput: "Question", elicitation: "A tool server asks", tool: "Result of a tool",
};

// Told by the card itself, or of no use to who decides.
const LEFT_OUT = new Set(["itemId", "availableDecisions", "questions", "requestedSchema", "isBlocking", "mode"]);

let shown = "";

// Questions of the run, with the details that its events told; `decide` sends an answer.
export function showQuestions(run, details, decide) {
  const open = run.pendingRequests;
  const now = JSON.stringify([run.id, open.map((each) => [each.id, details.has(each.id)])]);
  $("questions").hidden = open.length === 0;
  if (now === shown) return; // what somebody is typing stays
  shown = now;
  $("asked").replaceChildren(...open.map((each) => cardOf(each, details.get(each.id), decide)));
}

function cardOf(request, payload, decide) {
  const card = element("article");
  card.dataset.request = request.id;
  const asked = (payload && payload.request) || {};
  card.append(element("h4", KINDS[request.kind] || request.kind));
  card.append(element("pre", request.summary, "asked"));
  const facts = element("dl");
  for (const [name, value] of Object.entries(asked)) {
    if (LEFT_OUT.has(name) || value === request.summary) continue;
    const text = typeof value === "string" ? value : JSON.stringify(value, null, 1);
    facts.append(element("dt", name), element("dd", text));
  }
  card.append(facts);
  const fields = fieldsOf(request.kind, asked);
  const inputs = new Map();
  for (const field of fields) card.append(inputOf(field, inputs));
  const row = element("div", undefined, "bar");
  for (const decision of request.decisions) {
    const look = decision.startsWith("accept") ? "good" : "";
    const act = async () => {
      const content = decision === "accept" && fields.length ? contentOf(request.kind, fields, inputs) : undefined;
      for (const each of row.querySelectorAll("button")) each.disabled = true;
      const taken = await decide(request.id, decision, content);
      for (const each of row.querySelectorAll("button")) each.disabled = taken;
    };
    const made = button(NAMES[decision] || decision, act, look);
    made.dataset.decision = decision;
    row.append(made);
  }
  if (request.expiresAt) {
    row.append(element("span", `decided without you in ${span(Date.parse(request.expiresAt) - Date.now())}`, "quiet"));
  }
  card.append(row);
  return card;
}

function fieldsOf(kind, asked) {
  if (kind === "userInput") {
    return (asked.questions || []).map((each) => ({
      name: each.id, label: each.question || each.header || each.id,
      options: (each.options || []).map((option) => option.label || String(option)),
    }));
  }
  if (kind === "elicitation" && asked.requestedSchema) {
    return Object.entries(asked.requestedSchema.properties || {}).map(([name, schema]) => ({
      name, label: schema.title || schema.description || name, type: schema.type,
      options: schema.type === "boolean" ? ["true", "false"] : schema.enum || [],
    }));
  }
  return kind === "tool" ? [{ name: "text", label: "What the tool gives", options: [] }] : [];
}

function inputOf(field, inputs) {
  const label = element("label", field.label);
  const input = element("input");
  input.name = field.name;
  if (field.options.length) {
    const list = element("datalist");
    list.id = `options-${inputs.size}-${field.name}`;
    for (const option of field.options) list.append(new Option(option));
    input.setAttribute("list", list.id);
    label.append(list);
  }
  label.append(input);
  inputs.set(field.name, input);
  return label;
}

function contentOf(kind, fields, inputs) {
  const value = (field) => {
    const text = inputs.get(field.name).value;
    if (field.type === "integer" || field.type === "number") return Number(text);
    return field.type === "boolean" ? text === "true" : text;
  };
  if (kind === "tool") return { contentItems: [{ type: "inputText", text: value(fields[0]) }] };
  const pairs = fields.filter((field) => inputs.get(field.name).value !== "");
  return Object.fromEntries(pairs.map((field) => [field.name, kind === "userInput" ? [value(field)] : value(field)]));
}
