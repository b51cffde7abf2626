// Runs in the audio thread: plays pieces one after the other, and stops at once when told to.

const FADE = 0.005;

class Speaker extends AudioWorkletProcessor {
  constructor() {
    super();
    this.pieces = [];
    this.at = 0;
    this.gain = 1;
    this.fading = false;
    this.sounding = false;
    this.port.onmessage = ({ data }) => {
      if (data === "stop") {
        this.fading = this.pieces.length > 0;
      } else {
        if (this.fading) this.clear();
        this.pieces.push(new Int16Array(data));
      }
    };
  }

  clear() {
    this.pieces = [];
    this.at = 0;
    this.gain = 1;
    this.fading = false;
  }

  process(_, outputs) {
    const out = outputs[0][0];
    let heard = false;
    for (let i = 0; i < out.length && this.pieces.length; i += 1) {
      const piece = this.pieces[0];
      out[i] = (this.gain * piece[this.at]) / 32768;
      heard = heard || piece[this.at] !== 0;
      this.at += 1;
      // A sound that is cut off clicks: it fades out within a few milliseconds.
      if (this.fading) this.gain -= 1 / (FADE * sampleRate);
      if (this.gain <= 0) this.clear();
      else if (this.at === piece.length) {
        this.pieces.shift();
        this.at = 0;
      }
    }
    if (!this.pieces.length) this.clear();
    if (heard && !this.sounding) {
      this.sounding = true;
      this.port.postMessage("sounds");
    } else if (this.sounding && !this.pieces.length) {
      this.sounding = false;
      this.port.postMessage("silent");
    }
    return true;
  }
}

registerProcessor("speaker", Speaker);
