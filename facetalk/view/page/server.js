// The server's two WebSockets: a recording that becomes a head, sound that becomes curves.

const PIECE = 512 * 1024; // bytes of a recording that are sent at once
const AHEAD = 8 * PIECE; // that wait in the browser at most

function connect(path) {
  const socket = new WebSocket(`ws://${location.host}${path}`);
  socket.binaryType = "arraybuffer";
  return socket;
}

// Send a recording (a Blob); gives { frames, steps, guidance, notes, sound, glb }. `tell` gets the share that was sent.
export function talk(recording, name, settings, tell) {
  return new Promise((resolve, reject) => {
    const socket = connect("/talk");
    let done = null;
    const parts = [];
    socket.onopen = async () => {
      socket.send(JSON.stringify({ name, size: recording.size, ...settings }));
      for (let at = 0; at < recording.size && socket.readyState === WebSocket.OPEN; at += PIECE) {
        while (socket.bufferedAmount > AHEAD) await new Promise((go) => setTimeout(go, 10));
        const piece = await recording.slice(at, at + PIECE).arrayBuffer();
        if (socket.readyState === WebSocket.OPEN) socket.send(piece);
        tell(Math.min(1, (at + PIECE) / recording.size));
      }
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") {
        done = JSON.parse(data);
        if (done.type === "error") reject(new Error(done.text));
      } else {
        parts.push(data);
        if (parts.length === 2) { resolve({ ...done, sound: parts[0], glb: parts[1] }); socket.close(); }
      }
    };
    socket.onclose = () => reject(new Error("facetalk hung up; is it still running?"));
  });
}

// A stream of sound; `show` gets the weights of a frame, its number, and where the head is: a quaternion and a translation.
export class Listener {
  #socket; #count; #poses = [];

  constructor(count) { this.#count = count; }

  // Begin; gives the latency in seconds.
  start(rate, settings, show, ended) {
    return new Promise((resolve, reject) => {
      const socket = (this.#socket = connect("/listen"));
      socket.onopen = () => socket.send(JSON.stringify({ rate, ...settings }));
      socket.onclose = () => { reject(new Error("facetalk hung up; is it still running?")); ended(""); };
      socket.onmessage = ({ data }) => {
        if (typeof data === "string") {
          const said = JSON.parse(data);
          if (said.type === "ready") resolve(said.latency);
          if (said.type === "pose") this.#poses = said.rows; // of the frames of the next message
          if (said.type === "error") { reject(new Error(said.text)); ended(said.text); }
          return;
        }
        const head = new DataView(data);
        const first = head.getUint32(0, true), frames = head.getUint32(4, true);
        const weights = new Float32Array(data, 8);
        for (let i = 0; i < frames; i++) show(weights.subarray(i * this.#count, (i + 1) * this.#count), first + i, this.#poses[i]);
        this.#poses = [];
      };
    });
  }

  // Send samples (Int16Array); false where they were dropped since a second of sound waits already.
  push(samples, rate) {
    if (this.#socket.readyState !== WebSocket.OPEN) return false;
    if (this.#socket.bufferedAmount > 2 * rate) return false;
    this.#socket.send(samples);
    return true;
  }

  stop() {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send("end");
    else this.#socket?.close();
  }
}
