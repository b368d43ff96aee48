// Speech (16-bit mono WAV) to a CSV of curves, one row a frame, in node; a page does the same with fetch():
//   make wasm
//   node examples/wasm/wav_to_csv.mjs build/wasm/facetalk.js MODEL_FOLDER speech.wav [LOOK_AHEAD_S] > curves.csv
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const [script, folder, sound, lookAhead] = process.argv.slice(2);
if (sound === undefined) {
  console.error("usage: wav_to_csv.mjs facetalk.js MODEL_FOLDER SPEECH.wav [LOOK_AHEAD_S]  (16-bit mono)");
  process.exit(2);
}
// Given by hand, since what Emscripten 3.1 makes takes a node with fetch() for a browser.
const wasmBinary = fs.readFileSync(script.replace(/\.js$/, ".wasm"));
const lib = await createRequire(import.meta.url)(path.resolve(script))({ wasmBinary });

const need = (status) => {
  if (status === 0) return;
  console.error(`error: ${lib.UTF8ToString(lib._facetalk_last_error())}`);
  process.exit(1);
};
// A handle that a call writes through a pointer.
const made = (call) => {
  const out = lib._malloc(4);
  need(call(out));
  const handle = lib.getValue(out, "i32");
  lib._free(out);
  return handle;
};
const text = (string) => {
  const size = lib.lengthBytesUTF8(string) + 1;
  const at = lib._malloc(size);
  lib.stringToUTF8(string, at, size);
  return at;
};

// The model's files, without the head, which only rigs read.
const copy = (from, to) => {
  lib.FS.mkdir(to);
  for (const entry of fs.readdirSync(from, { withFileTypes: true })) {
    const [there, here] = [path.join(from, entry.name), `${to}/${entry.name}`];
    if (entry.isDirectory() && entry.name !== "head") copy(there, here);
    else if (entry.isFile()) lib.FS.writeFile(here, fs.readFileSync(there));
  }
};
copy(folder, "/model");

const wav = fs.readFileSync(sound);
if (wav.toString("latin1", 36, 40) !== "data" || wav[22] !== 1 || wav[34] !== 16) {
  console.error("error: not a plain WAV of 16 bits and one channel");
  process.exit(1);
}
const samples = Float32Array.from({ length: (wav.length - 44) >> 1 }, (_, i) => wav.readInt16LE(44 + 2 * i) / 32768);

// facetalk_stream_options on a machine of 32 bits: size_t, two int32_t, then values of 8 bytes at multiples of 8.
const options = lib._malloc(40);
lib._facetalk_stream_options_default(options);
lib.setValue(options + 4, wav.readInt32LE(24), "i32");
lib.setValue(options + 16, lookAhead === undefined ? Infinity : Number(lookAhead), "double");
const model = made((out) => lib._facetalk_model_load(text("/model"), out));
const stream = made((out) => lib._facetalk_stream_create(model, options, out));
const count = lib._facetalk_model_curve_count(model);
const names = Array.from({ length: count }, (_, i) => lib.UTF8ToString(lib._facetalk_model_curve_name(model, i)));
const rows = [["time", ...names].join(",")];

const [block, room, got] = [1600, 64, lib._malloc(8)];
const [pushed, curves] = [lib._malloc(4 * block), lib._malloc(4 * room * count)];
const pull = () => {
  for (;;) {
    need(lib._facetalk_stream_pull(stream, curves, BigInt(room), got));
    const frames = lib.getValue(got, "i32");
    if (frames === 0) return;
    const values = lib.HEAPF32.subarray(curves / 4, curves / 4 + frames * count);
    for (let frame = 0; frame < frames; ++frame) {
      const time = (rows.length - 0.5) / lib._facetalk_model_fps(model);
      rows.push([time, ...values.subarray(frame * count, (frame + 1) * count)].map((v) => v.toFixed(6)).join(","));
    }
  }
};
const begun = performance.now();
for (let at = 0; at < samples.length; at += block) {
  const piece = samples.subarray(at, at + block);
  lib.HEAPF32.set(piece, pushed / 4);
  need(lib._facetalk_stream_push(stream, pushed, piece.length));
  pull();
}
need(lib._facetalk_stream_finish(stream));
pull();
lib._facetalk_stream_free(stream);
lib._facetalk_model_free(model);
process.stdout.write(rows.join("\n") + "\n");
const seconds = samples.length / wav.readInt32LE(24);
console.error(`${seconds.toFixed(1)} s of sound in ${((performance.now() - begun) / 1000).toFixed(2)} s`);
