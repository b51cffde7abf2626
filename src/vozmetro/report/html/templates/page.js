(() => {
  "use strict";
  const root = document.documentElement;
  const all = (css) => document.querySelectorAll(css);
  const saved = (key) => { try { return localStorage.getItem("vozmetro." + key); } catch { return null; } };
  const keep = (key, value) => { try { localStorage.setItem("vozmetro." + key, value); } catch { /* nowhere to keep it */ } };
  const speak = (lang) => {
    root.lang = lang;
    const title = document.querySelector("title");
    if (title) document.title = title.dataset[lang];
    for (const one of all("[data-lang]")) one.setAttribute("aria-pressed", String(one.dataset.lang === lang));
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const shade = () => { for (const one of all(".theme")) one.setAttribute("aria-pressed", String(dark())); };
  if (["es", "en"].includes(saved("lang"))) root.lang = saved("lang");
  if (["light", "dark"].includes(saved("theme"))) root.dataset.theme = saved("theme");
  document.addEventListener("DOMContentLoaded", () => {
    for (const one of all(".tools")) one.hidden = false;
    for (const one of all("[data-lang]")) {
      one.addEventListener("click", () => { speak(one.dataset.lang); reach(); keep("lang", one.dataset.lang); });
    }
    for (const one of all(".theme")) {
      one.addEventListener("click", () => {
        root.dataset.theme = dark() ? "light" : "dark";
        keep("theme", root.dataset.theme);
        shade();
      });
    }
    speak(root.lang);
    shade();
    system.addEventListener("change", shade);
  });
  // A table that is wider than its place is scrolled by keyboard too.
  const reach = () => {
    for (const one of all(".scroll")) {
      const names = { tabindex: "0", role: "group", "aria-labelledby": one.querySelector("caption").id };
      for (const [name, value] of Object.entries(names)) {
        if (one.scrollWidth > one.clientWidth) one.setAttribute(name, value);
        else one.removeAttribute(name);
      }
    }
  };
  addEventListener("DOMContentLoaded", reach);
  addEventListener("resize", reach);
  addEventListener("toggle", reach, true);
  // What a link leads to is open.
  const reveal = () => {
    const there = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const fold = there && there.querySelector(":scope > details");
    if (fold && !fold.open) { fold.open = true; there.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  addEventListener("DOMContentLoaded", reveal);
  // On paper nothing is folded.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...all("details:not([open])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
})();
