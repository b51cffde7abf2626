// One trial: listen, answer, go on.

import { Player, clear, nextUnheard } from "./player.js";
import { choices, el, show } from "./ui.js";

const LETTERS = "ABCDEFGHIJKLMNOP";

const OPTIONS = {
  acr: (scale) => [5, 4, 3, 2, 1].map((value) => [value, `${scale}_${value}`, String(value)]),
  ab: () => [[0, "choose_a", "1"], [1, "choose_b", "2"]],
  ccr: (scale) =>
    [3, 2, 1, 0, -1, -2, -3].map((value, place) => [
      value, `ccr_${scale === "quality" ? "quality" : "more"}_${value}`, String(place + 1),
    ]),
};

// state: what the server told; send: takes the answer, and comes back when it is stored.
export function showTrial(state, send) {
  clear();
  const { trial, method, scales } = state;
  const mushra = method === "mushra";
  const answers = Object.fromEntries(scales.map((scale) => [scale, trial.clips.map(() => null)]));
  if (!mushra) for (const scale of scales) answers[scale] = [null];
  const next = el("button", { type: "submit", class: "main", t: "next", disabled: true });
  const players = [];
  const fieldsets = [];
  let sending = false;

  function refresh() {
    const heard = players.every((player) => player.plays > 0);
    for (const one of fieldsets) one.disabled = !heard;
    const complete = Object.values(answers).every((values) => values.every((value) => value !== null));
    next.disabled = sending || !heard || !complete;
  }

  function player(clip, key, fields) {
    const one = new Player(`/api/clip/${clip.id}`, key, fields, refresh);
    players.push(one);
    return one.element;
  }

  const form = el("form", { on: { submit } });
  form.append(...(mushra ? sliders() : questions()));
  form.append(el("div", { class: "actions" }, next));

  async function submit(event) {
    event.preventDefault();
    refresh();
    if (next.disabled) return;
    sending = true;
    refresh();
    const plays = players.map((one) => Math.min(one.plays, 10000));
    const stored = await send({ position: trial.position, answers, plays });
    if (!stored) {
      sending = false;
      refresh();
    }
  }

  function questions() {
    const one = trial.clips.length === 1;
    const heard = trial.clips.map((clip, place) =>
      player(clip, one ? "play" : "play_letter", { letter: LETTERS[place] }));
    const sets = scales.map((scale) => {
      const set = choices(
        el("legend", { t: `${method}_${scale}` }), OPTIONS[method](scale),
        (value) => { answers[scale] = [value]; refresh(); },
      );
      fieldsets.push(set);
      return set;
    });
    return [el("div", { class: one ? "players one" : "players" }, ...heard), ...sets];
  }

  function sliders() {
    const reference = player(trial.reference, "play_reference", {});
    const rows = trial.clips.map((clip, place) => {
      const letter = LETTERS[place];
      const output = el("output", {});
      output.textContent = "–";
      const input = el("input", {
        type: "range", min: "0", max: "100", value: "50", label: "rate_letter", fields: { letter },
        on: {
          input: () => {
            answers.quality[place] = Number(input.value);
            output.textContent = input.value;
            refresh();
          },
        },
      });
      return el("div", { class: "stimulus" }, player(clip, "play_letter", { letter }),
        el("div", { class: "scale" }, input), output);
    });
    const words = ["mushra_1", "mushra_2", "mushra_3", "mushra_4", "mushra_5"];
    const ends = el("div", { class: "ends", "aria-hidden": "true" }, ...words.map((t) => el("span", { t })));
    const set = el("fieldset", { class: "sliders" }, el("legend", { t: "mushra_quality" }),
      el("p", { class: "soft", t: "mushra_hint" }), ends, ...rows);
    // The players lie in the set: only the sliders wait until everything is heard.
    fieldsets.push(...rows.map((row) => row.querySelector("input")));
    return [el("div", { class: "players one" }, reference), set];
  }

  const share = el("progress", { max: String(trial.total), value: String(trial.position), label: "progress" });
  const count = el("span", { t: "progress_count", fields: { n: trial.position + 1, total: trial.total } });
  show(
    el("div", { class: "progress" }, share, count),
    el("h1", { t: trial.training ? "practice_title" : `${method}_title` }),
    trial.training ? el("p", { class: "soft", t: "practice_note" }) : null,
    el("p", { t: `${method}_do` }),
    trial.expected === null ? null : trap(method, trial.expected, scales.length > 1),
    form,
    el("p", { class: "keys soft", t: mushra ? "keys_mushra" : "keys" }),
  );
  refresh();
  return (event) => shortcut(event, fieldsets, mushra);
}

function trap(method, expected, several) {
  const key = { acr: `trap_acr`, ab: expected ? "trap_b" : "trap_a", ccr: `trap_ccr` }[method];
  const number = method === "ccr" ? 4 - expected : expected;
  const all = several ? el("span", { t: "trap_all" }) : null;
  return el("p", { class: "note" }, el("span", { t: key, fields: { number } }), " ", all);
}

// P plays; digits answer the question in focus, or else the first without an answer.
function shortcut(event, fieldsets, mushra) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.toLowerCase() === "p") {
    const next = nextUnheard();
    if (next) next.play();
  } else if (!mushra && /^[1-9]$/.test(event.key)) {
    const focused = fieldsets.find((one) => one.contains(document.activeElement));
    const open = fieldsets.find((one) => !one.querySelector("input:checked"));
    const set = focused || open || fieldsets[0];
    const rows = [...set.querySelectorAll("label")];
    const row = rows.find((one) => one.querySelector(".key").textContent === event.key);
    const input = row && row.querySelector("input");
    if (!input || set.disabled) return;
    input.checked = true;
    // The next digit is for the next question, so the focus stays where it is.
    input.dispatchEvent(new Event("change"));
  } else if (event.key === "Enter" && !event.target.closest("button, a")) {
    const next = document.querySelector("form button[type=submit]");
    if (next && !next.disabled) next.form.requestSubmit();
    event.preventDefault();
  }
}
