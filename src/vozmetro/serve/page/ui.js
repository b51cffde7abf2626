// Elements and texts. Text is only ever set as text, never read as HTML.

const texts = {};
const said = new WeakMap();
let lang = "es";

export async function speak(wanted) {
  if (!texts[wanted]) {
    const answer = await fetch(`/live/texts/${wanted}`);
    if (!answer.ok) throw new Error("texts");
    texts[wanted] = await answer.json();
  }
  lang = wanted;
  document.documentElement.lang = lang;
  for (const button of document.querySelectorAll("[data-lang]")) {
    button.setAttribute("aria-pressed", String(button.dataset.lang === lang));
  }
  for (const one of document.querySelectorAll("[data-t]")) retext(one);
  document.title = say("title");
}

export function known(key) {
  return Boolean(texts[lang] && texts[lang][key]);
}

export function say(key, fields = {}) {
  const text = (texts[lang] && texts[lang][key]) || key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in fields ? String(fields[name]) : whole));
}

function retext(one) {
  const { fields, as } = said.get(one) || {};
  const text = say(one.dataset.t, fields && fields());
  if (as) one.setAttribute(as, text);
  else one.textContent = text;
}

// Says `key` in an element (or in one of its attributes), again after each change of language.
// fields: a function, because numbers too are written as the language has them.
export function tell(one, key, fields = null, as = "") {
  said.set(one, { fields, as });
  one.dataset.t = key;
  retext(one);
  return one;
}

export function hush(one) {
  delete one.dataset.t;
  one.textContent = "";
}

export function el(tag, attributes = {}, ...children) {
  const one = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  one.append(...children);
  return one;
}

export function find(id) {
  return document.getElementById(id);
}

export function number(value, digits = 0) {
  const shown = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return value.toLocaleString(lang, shown);
}

export function milliseconds(value) {
  return value === undefined ? "–" : `${number(value)} ms`;
}
