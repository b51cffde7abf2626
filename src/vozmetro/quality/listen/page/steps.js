// The steps before and after the trials.

import { Player, clear } from "./player.js";
import { choices, el, language, say, show } from "./ui.js";

const FIRST_LANGUAGES = ["es", "en", "pt", "ca", "eu", "gl", "fr", "de", "other"];

export function showWelcome(state, join) {
  clear();
  const name = el("input", { type: "text", id: "name", maxlength: "60", autocomplete: "off" });
  const first = el("select", { id: "first", required: true },
    el("option", { value: "", t: "choose" }),
    ...FIRST_LANGUAGES.map((code) => el("option", { value: code, t: `language_${code}` })));
  let hearing = null;
  const start = el("button", { type: "submit", class: "main", t: "start", disabled: true });
  const consent = el("input", { type: "checkbox", id: "consent", on: { change: refresh } });
  const ears = choices(
    el("legend", { t: "hearing" }),
    [["normal", "hearing_normal"], ["reduced", "hearing_reduced"], ["unsure", "hearing_unsure"]],
    (value) => { hearing = value; refresh(); },
  );
  first.addEventListener("change", refresh);

  function refresh() {
    start.disabled = !(consent.checked && hearing && first.value);
  }

  const form = el("form", {
    on: {
      submit: async (event) => {
        event.preventDefault();
        if (start.disabled) return;
        start.disabled = true;
        const joined = await join({
          consent: true, lang: language(), name: name.value.slice(0, 60), first_language: first.value, hearing,
        });
        if (!joined) refresh();
      },
    },
  },
    el("div", { class: "field" }, el("label", { for: "first", t: "first_language" }), first),
    ears,
    el("div", { class: "field" }, el("label", { for: "name", t: "name" }), name),
    el("label", { class: "tick" }, consent, el("span", { t: "consent" })),
    el("div", { class: "actions" }, start));
  show(
    el("h1", { t: "title" }),
    el("p", { t: "welcome" }),
    el("ul", {},
      el("li", { t: "welcome_minutes", fields: { minutes: state.minutes } }),
      el("li", { t: "welcome_resume" }),
      el("li", { t: "welcome_data" })),
    form,
  );
}

// Volume, then what one listens with, then (with headphones) the three tones.
export function showSetup(state, send) {
  clear();
  const go = el("button", { type: "button", class: "main", t: "continue", disabled: true,
    on: { click: () => showDevice(state, send) } });
  const player = new Player(`/api/clip/${state.sample.id}`, "play_sample", {}, () => { go.disabled = false; });
  show(
    el("h1", { t: "volume_title" }),
    el("p", { t: "volume_place" }),
    el("p", { t: "volume_do" }),
    el("div", { class: "players one" }, player.element),
    el("div", { class: "actions" }, go),
  );
}

function showDevice(state, send) {
  clear();
  let device = null;
  const go = el("button", { type: "submit", class: "main", t: "continue", disabled: true });
  const set = choices(
    el("legend", { t: "device" }),
    [["headphones", "device_headphones"], ["speakers", "device_speakers"]],
    (value) => { device = value; go.disabled = false; },
  );
  const form = el("form", {
    on: {
      submit: async (event) => {
        event.preventDefault();
        if (go.disabled) return;
        if (device === "headphones") showTones(state, send, []);
        else {
          go.disabled = true;
          if (!(await send({ device, tones: [] }))) go.disabled = false;
        }
      },
    },
  }, set, el("div", { class: "actions" }, go));
  show(el("h1", { t: "device_title" }), el("p", { t: "device_why" }), form);
}

function showTones(state, send, given) {
  clear();
  let answer = null;
  const go = el("button", { type: "submit", class: "main", t: "continue", disabled: true });
  const skip = el("button", { type: "button", class: "second", t: "skip",
    on: { click: () => { skip.disabled = true; send({ device: "headphones", tones: [] }); } } });
  const set = choices(
    el("legend", { t: "tones_question" }),
    [[0, "tone_1", "1"], [1, "tone_2", "2"], [2, "tone_3", "3"]],
    (value) => { answer = value; go.disabled = false; },
  );
  set.disabled = true;
  const player = new Player(`/api/tone/${given.length}`, "play_tones", {}, () => { set.disabled = false; });
  const form = el("form", {
    on: {
      submit: async (event) => {
        event.preventDefault();
        if (go.disabled) return;
        go.disabled = true;
        const tones = [...given, answer];
        if (tones.length < state.rounds) showTones(state, send, tones);
        else if (!(await send({ device: "headphones", tones }))) go.disabled = false;
      },
    },
  }, el("div", { class: "players one" }, player.element), set, el("div", { class: "actions" }, go, skip));
  const count = el("p", { class: "soft", t: "tones_count", fields: { n: given.length + 1, total: state.rounds } });
  show(el("h1", { t: "tones_title" }), count, el("p", { t: "tones_do" }), form);
}

// What there is to do, said once before the practice.
export function showIntro(state, go) {
  clear();
  const button = el("button", { type: "button", class: "main", t: "practice_start", on: { click: go } });
  show(
    el("h1", { t: "intro_title" }),
    el("p", { t: `intro_${state.method}` }),
    el("ul", {},
      el("li", { t: "intro_whole" }),
      el("li", { t: "intro_free" }),
      state.method === "mushra" ? null : el("li", { t: "intro_checks" })),
    el("div", { class: "actions" }, button),
  );
}

export function showCounts(go) {
  clear();
  const button = el("button", { type: "button", class: "main", t: "counts_start", on: { click: go } });
  show(el("h1", { t: "counts_title" }), el("p", { t: "counts" }), el("div", { class: "actions" }, button));
}

export function showDone(state, send, leave) {
  clear();
  const text = el("textarea", { id: "comment", maxlength: "1000" });
  const button = el("button", { type: "submit", class: "main", t: "comment_send" });
  const form = el("form", {
    on: {
      submit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        if (!(await send({ comment: text.value.slice(0, 1000) }))) button.disabled = false;
      },
    },
  },
    el("div", { class: "field" }, el("label", { for: "comment", t: "comment" }), text),
    el("div", { class: "actions" }, button));
  const another = el("button", { type: "button", class: "second", t: "another", on: { click: leave } });
  show(
    el("h1", { t: "thanks_title" }),
    el("p", { t: "thanks" }),
    state.commented ? el("p", { t: "commented" }) : form,
    el("h2", { t: "another_title" }),
    el("p", { class: "soft", t: "another_why" }),
    el("div", { class: "actions" }, another),
  );
}

export function showBroken(code, again) {
  clear();
  show(
    el("h1", { t: "broken_title" }),
    el("p", { t: say(`error_${code}`) === `error_${code}` ? "error_offline" : `error_${code}` }),
    el("div", { class: "actions" }, el("button", { type: "button", class: "main", t: "again", on: { click: again } })),
  );
}
