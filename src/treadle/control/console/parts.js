// Small parts of the page. What comes from the API enters it as text, never as markup.
"use strict";

export const LOOKS = {
  completed: "good", failed: "bad", blocked: "bad", running: "busy", claimed: "busy",
  interrupting: "wait", pending: "wait", "needs-input": "ask",
};

export const $ = (id) => document.getElementById(id);

export function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function button(text, act, className) {
  const made = element("button", text, className);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

export function showBadge(badge, text, look) {
  badge.textContent = text;
  badge.className = `badge ${look || ""}`;
}

export function cell(content, className) {
  const made = element("td", undefined, className);
  made.append(content instanceof Node ? content : content ?? "");
  return made;
}

export function badgeOf(text, look) {
  const made = element("span");
  showBadge(made, text, look);
  return made;
}

export function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export const age = (stamp) => span(Date.now() - Date.parse(stamp));

export function notice(text) {
  $("notice").textContent = text || "";
}

// Only the word that nobody answers is taken back by itself; a refusal stays until the next order.
const SILENT = "The manager does not answer; trying again.";
export const sayUnreachable = () => notice(SILENT);
export function sayReachable() {
  if ($("notice").textContent === SILENT) notice("");
}
