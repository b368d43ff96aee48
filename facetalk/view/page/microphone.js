// The microphone as 16-bit samples.

export class Microphone {
  #context = null; #tracks = [];

  // Ask for it; gives the sampling rate. `take` gets pieces of 20 ms (Int16Array).
  async open(take) {
    if (!navigator.mediaDevices) {
      throw new Error("browsers give the microphone to pages of this machine alone: open http://localhost here, or through ssh -L");
    }
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: false, autoGainControl: false } });
    this.#tracks = stream.getTracks();
    this.#context = new AudioContext({ latencyHint: "interactive" });
    await this.#context.audioWorklet.addModule("/worklet.js");
    const pieces = new AudioWorkletNode(this.#context, "pieces", { numberOfOutputs: 0 });
    pieces.port.onmessage = ({ data }) => take(data);
    this.#context.createMediaStreamSource(stream).connect(pieces);
    await this.#context.resume();
    return this.#context.sampleRate;
  }

  close() {
    this.#tracks.forEach((track) => track.stop());
    this.#context?.close();
    this.#context = null;
    this.#tracks = [];
  }
}
