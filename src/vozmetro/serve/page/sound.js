// The microphone and the loudspeaker, outside of the audio thread.

const WANTED = 16000;

export class Refused extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

// Where the browser cannot convert a microphone's rate, it is taken as it is: the server can.
async function context(stream) {
  for (const options of [{ sampleRate: WANTED }, {}]) {
    const made = new AudioContext(options);
    try {
      const source = made.createMediaStreamSource(stream);
      await made.audioWorklet.addModule("/live/static/microphone.js");
      return { made, source };
    } catch (error) {
      await made.close();
      if (!options.sampleRate) throw error;
    }
  }
  throw new Refused("no_sound");
}

// Opens the microphone: onFrame gets 16-bit samples, 20 ms at a time, and their level from 0 to 1.
export async function listen(onFrame) {
  if (!navigator.mediaDevices || !window.AudioWorkletNode) throw new Refused("no_sound");
  const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new Refused(error.name === "NotAllowedError" ? "not_allowed" : "no_microphone");
  }
  const stop = () => stream.getTracks().forEach((track) => track.stop());
  let opened;
  try {
    opened = await context(stream);
  } catch {
    stop();
    throw new Refused("no_sound");
  }
  const { made, source } = opened;
  const node = new AudioWorkletNode(made, "microphone", { numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => onFrame(data, level(new Int16Array(data)));
  source.connect(node);
  await made.resume();
  return {
    rate: made.sampleRate,
    stop: () => {
      node.port.onmessage = null;
      stop();
      made.close();
    },
  };
}

function level(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  const decibels = 20 * Math.log10(Math.sqrt(sum / samples.length) / 32768 + 1e-6);
  return Math.max(0, Math.min(1, (decibels + 60) / 50));
}

// Plays 16-bit samples as they come. One audio context for each rate, so that nothing is resampled
// piece by piece.
export class Loudspeaker {
  constructor(onChange) {
    this.onChange = onChange;
    this.outputs = new Map();
    this.current = null;
  }

  rate(hertz) {
    if (!this.outputs.has(hertz)) this.outputs.set(hertz, this.open(hertz));
    this.current = this.outputs.get(hertz);
  }

  async open(hertz) {
    const made = new AudioContext({ sampleRate: hertz });
    await made.audioWorklet.addModule("/live/static/speaker.js");
    await made.resume();
    const node = new AudioWorkletNode(made, "speaker", { numberOfInputs: 0, outputChannelCount: [1] });
    node.port.onmessage = ({ data }) => this.onChange(data === "sounds");
    node.connect(made.destination);
    return { made, node };
  }

  async post(data, transfer) {
    const output = this.current;
    if (output) (await output).node.port.postMessage(data, transfer);
  }

  play(data) {
    this.post(data, [data]).catch(() => {});
  }

  stop() {
    this.post("stop", []).catch(() => {});
  }
}
