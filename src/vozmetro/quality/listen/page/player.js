// Plays sounds whole: no stopping, no seeking, one at a time.

import { sound } from "./api.js";
import { announce, complain, el, tell } from "./ui.js";

let playing = null;
let all = [];

// Forgets the players of the last step, and frees their sounds.
export function clear() {
  for (const one of all) one.free();
  all = [];
  playing = null;
}

export function nextUnheard() {
  return all.find((one) => one.plays === 0) || all[0];
}

export class Player {
  // path: of the sound; key, fields: what the button says; onHeard: called after each whole play.
  constructor(path, key, fields, onHeard) {
    this.plays = 0;
    this.path = path;
    this.onHeard = onHeard;
    this.audio = new Audio();
    this.audio.preload = "auto";
    this.url = null;
    this.loading = null;
    this.freed = false;
    this.button = el("button", { type: "button", t: key, fields, on: { click: () => this.play() } });
    this.bar = el("progress", { max: "1", value: "0", "aria-hidden": "true" });
    this.state = el("span", { class: "state", t: "not_heard_yet" });
    this.element = el("div", { class: "player" }, this.button, this.bar, this.state);
    this.audio.addEventListener("timeupdate", () => this.draw());
    this.audio.addEventListener("ended", () => this.ended());
    this.audio.addEventListener("error", () => this.failed());
    // A headset's or keyboard's media keys can stop it: then it has to begin again.
    this.audio.addEventListener("pause", () => {
      if (playing === this && !this.audio.ended) this.stopped();
    });
    all.push(this);
    // Ahead of the click: some browsers play only what the click itself starts.
    this.load().catch(() => {});
  }

  load() {
    this.loading ||= sound(this.path).then(
      (blob) => {
        if (this.freed) return;
        this.url = URL.createObjectURL(blob);
        this.audio.src = this.url;
      },
      (error) => {
        this.loading = null;
        throw error;
      },
    );
    return this.loading;
  }

  draw() {
    const whole = this.audio.duration;
    this.bar.value = whole > 0 && Number.isFinite(whole) ? Math.min(1, this.audio.currentTime / whole) : 0;
  }

  async play() {
    if (playing) return;
    playing = this;
    complain("");
    // Not switched off, which would take the focus away from whoever uses the keyboard.
    for (const one of all) one.button.setAttribute("aria-disabled", "true");
    tell(this.state, "playing");
    try {
      if (!this.url) await this.load();
      if (playing !== this) return;
      this.audio.currentTime = 0;
      await this.audio.play();
    } catch (error) {
      if (playing === this) this.failed(error);
    }
  }

  ended() {
    if (playing !== this) return;
    this.plays += 1;
    this.bar.value = 1;
    this.element.classList.add("heard");
    this.stopped();
    tell(this.state, "heard");
    announce("heard");
    this.onHeard();
  }

  stopped() {
    playing = null;
    for (const one of all) one.button.removeAttribute("aria-disabled");
    tell(this.state, this.plays ? "heard" : "not_heard_yet");
  }

  failed(error) {
    if (playing !== this) return;
    this.stopped();
    complain(error && error.code ? `error_${error.code}` : "error_sound");
  }

  free() {
    this.onHeard = () => {};
    this.freed = true;
    this.audio.pause();
    this.audio.removeAttribute("src");
    if (this.url) URL.revokeObjectURL(this.url);
  }
}
