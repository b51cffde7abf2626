// The page: asks the server where this listener is, and shows that step.

import { Refused, get, post } from "./api.js";
import { showBroken, showCounts, showDone, showIntro, showSetup, showWelcome } from "./steps.js";
import { showTrial } from "./trial.js";
import { complain, speak } from "./ui.js";

const LANGUAGES = ["es", "en"];
const KEPT = "vozmetro-language";

let onKey = () => {};
let introduced = false;
let counting = false;

function chosenLanguage() {
  let kept = null;
  try {
    kept = localStorage.getItem(KEPT);
  } catch {
    // Storage may be switched off; then the browser's language decides each time.
  }
  const wanted = [kept, ...(navigator.languages || []).map((one) => one.slice(0, 2))];
  return wanted.find((one) => LANGUAGES.includes(one)) || document.documentElement.lang;
}

for (const button of document.querySelectorAll("[data-lang]")) {
  button.addEventListener("click", async () => {
    try {
      await speak(button.dataset.lang);
      localStorage.setItem(KEPT, button.dataset.lang);
    } catch {
      // The page stays as it is.
    }
  });
}

document.addEventListener("keydown", (event) => {
  if (!event.target.closest("textarea, select, input[type=text]")) onKey(event);
});

function show(state) {
  onKey = () => {};
  document.getElementById("brand").textContent = state.title || "vozmetro";
  if (state.step === "welcome") {
    introduced = counting = false;
    showWelcome(state, sender("/api/join"));
  } else if (state.step === "setup") showSetup(state, sender("/api/setup"));
  else if (state.step === "trial") trial(state);
  else showDone(state, sender("/api/comment"), leave);
}

function trial(state) {
  const begin = () => {
    onKey = showTrial(state, sender("/api/rate"));
  };
  if (state.trial.position === 0 && !introduced) {
    introduced = true;
    showIntro(state, begin);
  } else if (introduced && !counting && !state.trial.training) {
    counting = true;
    showCounts(begin);
  } else begin();
}

// Sends to one address, shows the step that follows, and says whether it was taken.
function sender(path) {
  return async (value) => {
    try {
      show(await post(path, value));
      return true;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.code === "already_rated" || error.code === "wrong_trial") {
        // Another tab was faster: go on from where the server is.
        await load();
        return true;
      }
      complain(`error_${error.code}`);
      return false;
    }
  };
}

async function leave() {
  try {
    await post("/api/leave", {});
  } catch (error) {
    complain(`error_${error.code}`);
    return;
  }
  await load();
}

async function load() {
  try {
    show(await get("/api/state"));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    showBroken(error.code, load);
  }
}

try {
  await speak(chosenLanguage());
} catch {
  // Without texts, keys are shown; the error below says what to do.
}
await load();
