// Elements and texts. Text is only ever set as text, never read as HTML.

const texts = {};
let lang = "es";

export function language() {
  return lang;
}

export async function speak(wanted) {
  if (!texts[wanted]) {
    const answer = await fetch(`/api/texts/${wanted}`);
    if (!answer.ok) throw new Error("texts");
    texts[wanted] = await answer.json();
  }
  lang = wanted;
  document.documentElement.lang = lang;
  for (const button of document.querySelectorAll("[data-lang]")) {
    button.setAttribute("aria-pressed", String(button.dataset.lang === lang));
  }
  for (const one of document.querySelectorAll("[data-t]")) retext(one);
  const heading = document.querySelector("h1");
  document.title = heading ? heading.textContent : say("title");
}

export function say(key, fields = {}) {
  const text = (texts[lang] && texts[lang][key]) || key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in fields ? String(fields[name]) : whole));
}

const said = new WeakMap();

function retext(one) {
  const { key, fields, as } = said.get(one) || {};
  if (key === undefined) return;
  if (as) one.setAttribute(as, say(key, fields));
  else one.textContent = say(key, fields);
}

// Says `key` in an element (or in one of its attributes), again after each change of language.
export function tell(one, key, fields = {}, as = "") {
  said.set(one, { key, fields, as });
  one.setAttribute("data-t", "");
  retext(one);
  return one;
}

// el("p", { t: "welcome", class: "soft" }, child, ...)
export function el(tag, options = {}, ...children) {
  const one = document.createElement(tag);
  const { t, fields, label, on, ...attributes } = options;
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) one.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) one.setAttribute(name, value);
  }
  if (t) tell(one, t, fields);
  if (label) tell(one, label, fields, "aria-label");
  for (const [name, handler] of Object.entries(on || {})) one.addEventListener(name, handler);
  one.append(...children.filter((child) => child !== null && child !== undefined));
  return one;
}

// Shows a step: its heading gets the focus, so that a screen reader begins there.
export function show(...children) {
  const card = el("div", { class: "card" }, ...children);
  document.getElementById("main").replaceChildren(card);
  complain("");
  document.getElementById("live").textContent = "";
  window.scrollTo(0, 0);
  const heading = card.querySelector("h1");
  if (heading) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    document.title = heading.textContent;
  }
}

export function complain(key, fields = {}) {
  const status = document.getElementById("status");
  if (key) tell(status, key, fields);
  else {
    said.delete(status);
    status.textContent = "";
  }
}

// For screen readers alone; nothing is said while a recording plays.
export function announce(key) {
  document.getElementById("live").textContent = say(key);
}

let names = 0;

// A set of radio buttons: options are [value, key of the text, shortcut].
export function choices(legend, options, onChange) {
  const name = `choice-${(names += 1)}`;
  const rows = options.map(([value, key, shortcut]) => {
    const input = el("input", { type: "radio", name, value, on: { change: () => onChange(value) } });
    const hint = shortcut === undefined ? null : el("span", { class: "key", "aria-hidden": "true" });
    if (hint) hint.textContent = shortcut;
    return el("label", {}, input, hint, el("span", { t: key }));
  });
  return el("fieldset", {}, legend, el("div", { class: "choices" }, ...rows));
}
