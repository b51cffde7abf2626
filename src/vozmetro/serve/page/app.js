// The page: a microphone, a connection, and what comes of them.

import { Loudspeaker, listen } from "./sound.js";
import { answered, heard, keep, redraw, remark, setBudget, waterfall } from "./turns.js";
import { el, find, hush, known, speak, tell } from "./ui.js";

const LANGUAGES = ["es", "en"];
const KEPT = "vozmetro-language";
const TOKEN = "vozmetro-token";
const REFUSED = { 4401: "no_token", 1013: "server_busy" };
const MOST_UNSENT = 1 << 20;

let socket = null;
let microphone = null;
let starting = false;
let turn = null; // of which the parts are on their way
const texts = new Map(); // what was said in turns that have not ended
let spoken = ""; // the turn that is being played, until it is interrupted
const loudspeaker = new Loudspeaker((sounds) => {
  find("talk").classList.toggle("sounds", sounds);
  if (socket) state(sounds ? "speaking" : "listening");
  quiet();
});

function state(key) {
  tell(find("state"), key);
  find("talk").dataset.state = key;
}

function complain(code) {
  if (!code) hush(find("problem"));
  else tell(find("problem"), known(`error_${code}`) ? `error_${code}` : "error_other", () => ({ code }));
}

function quiet() {
  find("quiet").disabled = !(socket && (find("talk").classList.contains("sounds") || turn));
}

// From outside

function connect() {
  const address = new URL("/live/ws", location.href);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  const token = sessionStorage.getItem(TOKEN);
  const spoken = ["vozmetro.live", ...(token ? [`vozmetro.token.${token}`] : [])];
  const made = new WebSocket(address, spoken);
  made.binaryType = "arraybuffer";
  return new Promise((resolve, reject) => {
    made.onmessage = ({ data }) => {
      const told = typeof data === "string" ? JSON.parse(data) : null;
      if (told && told.type === "hello") {
        hello(told);
        made.onmessage = (message) => receive(message.data);
        // One that was left for another has nothing more to say.
        made.onclose = (event) => {
          if (made === socket) closed(event.code);
        };
        resolve(made);
      }
    };
    made.onclose = ({ code }) => reject(Object.assign(new Error("closed"), { code: REFUSED[code] || "offline" }));
  });
}

function hello(told) {
  setBudget(told.budget);
  const select = find("tier");
  const chosen = select.value;
  while (select.options.length > 1) select.options[1].remove();
  for (const tier of told.tiers) {
    const option = el("option", { value: tier.name }, tier.name);
    option.selected = tier.name === chosen;
    select.append(option);
  }
  find("tier-label").hidden = told.tiers.length < 2;
}

function receive(data) {
  if (typeof data !== "string") {
    if (spoken) loudspeaker.play(data);
    return;
  }
  const told = JSON.parse(data);
  const act = acts[told.type];
  if (act) act(told);
  quiet();
}

const acts = {
  ready: () => state("listening"),
  speech_started: (told) => {
    spoken = "";
    loudspeaker.stop();
    turn = { id: told.turn, parts: {}, from: null };
    state("hearing");
  },
  partial: (told) => heard(told.turn, told.text, false),
  speech_stopped: (told) => {
    if (turn) turn.from = told.at_ms;
    state("thinking");
  },
  transcript: (told) => {
    heard(told.turn, told.text, true);
    texts.set(told.turn, told.text);
    part("stt", told);
  },
  reply: (told) => {
    answered(told.turn, told.text);
    part("reply", told);
  },
  audio: (told) => {
    // A last piece of an answer that has been interrupted.
    if (turn && turn.id !== told.turn) return;
    spoken = told.turn;
    loudspeaker.rate(told.rate);
    part("tts_first_audio", told);
  },
  ended: (told) => {
    if (told.failure) complain(told.failure);
    if (told.cancelled) remark(told.turn, "interrupted");
    const whole = "tts_first_audio" in told.parts_ms && !told.failure;
    if (whole) {
      waterfall(told.parts_ms, true);
      keep(texts.get(told.turn) || "", told.parts_ms);
    }
    texts.delete(told.turn);
    if (turn && turn.id === told.turn) turn = null;
    if (!find("talk").classList.contains("sounds")) state("listening");
  },
  error: (told) => complain(told.code),
};

// Draws a part as soon as it is known; the server's own figures follow at the end of the turn.
function part(name, told) {
  if (!turn || turn.id !== told.turn || turn.from === null || name in turn.parts) return;
  turn.parts[name] = Math.max(0, told.at_ms - turn.from);
  turn.from = told.at_ms;
  waterfall(turn.parts, false);
}

function closed(code) {
  const wanted = socket === null;
  stop();
  if (!wanted) complain(code === 1001 ? "session_over" : "offline");
}

// From the user

async function start() {
  complain("");
  starting = true;
  state("starting");
  find("mic").disabled = true;
  try {
    socket = await connect();
    find("token-form").hidden = true;
    microphone = await listen((frame, level) => {
      find("level").firstElementChild.style.transform = `scaleX(${level})`;
      // What cannot be sent in time is of no use later.
      if (socket && socket.readyState === WebSocket.OPEN && socket.bufferedAmount < MOST_UNSENT) socket.send(frame);
    });
    if (!socket) throw Object.assign(new Error("closed"), { code: "offline" });
    const said = { type: "start", rate: microphone.rate, tier: find("tier").value, language: find("spoken").value };
    socket.send(JSON.stringify(said));
    show(true);
  } catch (error) {
    stop();
    if (error.code === "no_token") {
      find("token-form").hidden = false;
      find("token").focus();
    }
    complain(error.code || "no_sound");
  } finally {
    starting = false;
    find("mic").disabled = false;
  }
}

function stop() {
  const closing = socket;
  socket = null;
  if (microphone) microphone.stop();
  microphone = null;
  if (closing) closing.close();
  turn = null;
  texts.clear();
  spoken = "";
  loudspeaker.stop();
  find("level").firstElementChild.style.transform = "scaleX(0)";
  show(false);
  state("ready");
  quiet();
}

function show(on) {
  find("mic").setAttribute("aria-pressed", String(on));
  tell(find("mic-text"), on ? "stop" : "start");
}

find("mic").addEventListener("click", () => {
  if (starting) return;
  if (socket) stop();
  else start();
});
find("quiet").addEventListener("click", () => {
  if (socket) socket.send(JSON.stringify({ type: "cancel" }));
  spoken = "";
  loudspeaker.stop();
});
for (const id of ["tier", "spoken"]) {
  find(id).addEventListener("change", async () => {
    if (!socket || starting) return;
    stop();
    await start();
  });
}
find("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, find("token").value.trim());
  find("token").value = "";
  start();
});

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
      redraw();
      localStorage.setItem(KEPT, button.dataset.lang);
    } catch {
      // The page stays as it is.
    }
  });
}

await speak(chosenLanguage()).catch(() => {});
if (!find("state").textContent || find("state").dataset.t === "ready") state("ready");
