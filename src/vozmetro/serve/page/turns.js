// What was said, how long each part of a turn took, and how the last turns went.

import { el, find, milliseconds, number, tell } from "./ui.js";

export const PARTS = ["endpoint", "stt", "reply", "tts_first_audio"];
const KEPT = 50;
const SHOWN = 10;
const LEAST_P90 = 10;

let budget = { p50_ms: 240, p90_ms: 300, slow_ms: 500 };
let last = null;
const turns = [];

export function setBudget(given) {
  budget = given;
}

// What was said: one entry for each turn, the user's words and the answer's.

const lines = new Map();

export function line(turn) {
  if (!lines.has(turn)) {
    const user = el("p", { class: "user" }, tell(el("span", { class: "who" }), "you"), el("span", { class: "words" }));
    const answer = el("p", { class: "answer" }, tell(el("span", { class: "who" }), "answer"), el("span", { class: "words" }));
    const note = el("p", { class: "note" });
    answer.hidden = note.hidden = true;
    const item = el("li", {}, user, answer, note);
    find("said").append(item);
    find("nothing-said").hidden = true;
    lines.set(turn, { item, user, answer, note });
    while (lines.size > KEPT) {
      const [oldest, shown] = lines.entries().next().value;
      shown.item.remove();
      lines.delete(oldest);
    }
    item.scrollIntoView({ block: "nearest" });
  }
  return lines.get(turn);
}

export function heard(turn, text, final) {
  const { user } = line(turn);
  user.classList.toggle("partial", !final);
  const words = user.querySelector(".words");
  if (final && !text) tell(words, "no_words");
  else words.textContent = text;
}

export function answered(turn, text) {
  const { answer } = line(turn);
  answer.hidden = false;
  answer.querySelector(".words").textContent += text;
}

export function remark(turn, key) {
  const { note } = line(turn);
  note.hidden = false;
  tell(note, key);
}

// The turn as a waterfall: each part begins where the one before it ended.

function total(parts) {
  return PARTS.reduce((sum, part) => sum + (parts[part] || 0), 0);
}

export function waterfall(parts, whole) {
  last = { parts, whole };
  const sum = total(parts);
  const longest = Math.max(budget.slow_ms, sum) * 1.04;
  const share = (ms) => `${(100 * ms) / longest}%`;
  const rows = [];
  let from = 0;
  for (const part of PARTS) {
    const bar = el("span", { class: `bar ${part}` });
    bar.style.marginLeft = share(from);
    bar.style.width = share(parts[part] || 0);
    const value = el("span", { class: "value" }, milliseconds(parts[part]));
    const name = tell(el("span", { class: "name" }), `part_${part}`);
    rows.push(el("li", {}, name, el("span", { class: "track", "aria-hidden": "true" }, bar), value));
    from += parts[part] || 0;
  }
  const kept = sum < budget.p50_ms;
  const bar = el("span", { class: "bar total" });
  bar.style.width = share(sum);
  const track = el("span", { class: "track", "aria-hidden": "true" }, bar);
  for (const [name, ms] of [["limit", budget.p50_ms], ["slow", budget.slow_ms]]) {
    for (const one of [track, ...rows.map((row) => row.children[1])]) {
      const mark = el("span", { class: `mark ${name}` });
      mark.style.left = share(ms);
      one.append(mark);
    }
  }
  const name = tell(el("span", { class: "name" }), "part_total");
  rows.push(el("li", { class: "sum" }, name, track, el("span", { class: "value" }, milliseconds(sum))));
  const children = [el("ul", { class: "waterfall" }, ...rows), axis(share)];
  if (whole) {
    const verdict = el("p", { class: kept ? "verdict kept" : "verdict missed" });
    const fields = () => ({ total: number(sum), limit: number(budget.p50_ms), over: number(sum - budget.p50_ms) });
    children.push(tell(verdict, kept ? "within" : "beyond", fields));
  }
  find("no-turn").hidden = true;
  find("turn").hidden = false;
  find("turn").replaceChildren(...children);
}

function axis(share) {
  const limit = tell(el("span", { class: "limit" }), "axis_limit", () => ({ ms: number(budget.p50_ms) }));
  const slow = tell(el("span", { class: "slow" }), "axis_slow", () => ({ ms: number(budget.slow_ms) }));
  limit.style.left = share(budget.p50_ms);
  slow.style.left = share(budget.slow_ms);
  return el("p", { class: "axis" }, el("span", { class: "rule" }, limit, slow));
}

// The last turns.

export function keep(text, parts) {
  turns.push({ number: turns.length ? turns.at(-1).number + 1 : 1, text, parts });
  if (turns.length > KEPT) turns.shift();
  history();
}

// The smallest value that at least this share of the turns does not exceed.
function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

function history() {
  if (!turns.length) return;
  find("no-history").hidden = true;
  find("history").hidden = false;
  const voice = turns.map((turn) => total(turn.parts));
  const after = turns.map((turn) => total({ ...turn.parts, endpoint: 0 }));
  const enough = turns.length >= LEAST_P90;
  const entries = [
    ["p50_voice", milliseconds(percentile(voice, 0.5)), percentile(voice, 0.5) < budget.p50_ms],
    ["p90_voice", enough ? milliseconds(percentile(voice, 0.9)) : null, percentile(voice, 0.9) < budget.p90_ms],
    ["p50_post", milliseconds(percentile(after, 0.5)), null],
    ["turns_kept", number(turns.length), null],
  ];
  find("summary").replaceChildren(
    ...entries.map(([key, value, kept]) => {
      const shown = el("dd", value === null ? { class: "few" } : {});
      if (value === null) tell(shown, "too_few", () => ({ n: number(LEAST_P90) }));
      else {
        shown.textContent = value;
        if (kept !== null) shown.append(" ", tell(el("small", { class: kept ? "kept" : "missed" }), kept ? "ok" : "over"));
      }
      return el("div", {}, tell(el("dt", {}), key), shown);
    }),
  );
  const rows = turns.slice(-SHOWN).reverse().map((turn) => {
    const sum = total(turn.parts);
    const cells = PARTS.map((part) => el("td", {}, milliseconds(turn.parts[part])));
    const kept = sum < budget.p50_ms;
    const whole = el("td", { class: `total ${kept ? "kept" : "missed"}` }, `${kept ? "✓" : "✗"} ${milliseconds(sum)}`);
    const words = el("td", { class: "words" }, turn.text);
    return el("tr", {}, el("th", { scope: "row" }, number(turn.number)), whole, ...cells, words);
  });
  find("rows").replaceChildren(...rows);
}

// Numbers are written as the language has them.
export function redraw() {
  if (last) waterfall(last.parts, last.whole);
  history();
}
