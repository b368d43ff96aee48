// The page: what is opened, spoken or heard, and the controls.

import { Microphone } from "./microphone.js";
import { Listener, talk } from "./server.js";
import { Stage } from "./stage.js";

const $ = (id) => document.getElementById(id);
const MOST_GLB = 1 << 30;
const METERS = 8;

const stage = new Stage($("stage"));
const model = await (await fetch("/model.json")).json();
const state = { busy: false, length: 0, playing: false, at: 0, started: 0, sound: null, recording: null, live: null, frames: 0, urls: [] };

function say(text, trouble = false) {
  $("status").textContent = text;
  $("status").classList.toggle("trouble", trouble);
}

const reason = (error) => (error?.name === "NotAllowedError" ? "the microphone was not allowed" : error?.name === "NotFoundError" ? "there is no microphone" : error?.message ?? String(error));

// ---- controls

const counts = model.few ?? [...new Set([5, 10, 25, 50, model.steps ?? 10])].sort((a, b) => a - b);

function setUpControls() {
  const [low, high] = model.range ?? [0, 4];
  Object.assign($("steps"), { max: counts.length - 1, value: Math.max(0, counts.indexOf(model.steps)) });
  Object.assign($("guidance"), { min: low, max: high, value: model.guidance ?? 1 });
  $("guidance").dataset.rest = $("guidance").value; // as the browser rounded it
  const show = () => {
    $("steps-value").value = counts[$("steps").value];
    $("guidance-value").value = guidance()?.toFixed(2) ?? "the model's";
    $("ahead-value").value = `${Math.round(1000 * $("ahead").value)} ms`;
  };
  for (const id of ["steps", "guidance", "ahead"]) $(id).addEventListener("input", show);
  show();
  for (const [name, [min, max, value]] of Object.entries(model.sliders)) addSlider(name, { min, max, value });
}

function addSlider(name, range) {
  const label = document.createElement("label"), told = document.createElement("output"), slider = document.createElement("input");
  Object.assign(slider, { type: "range", step: 0.05, name, ...range });
  const show = () => { told.value = Number(slider.value).toFixed(2); };
  slider.addEventListener("input", show);
  show();
  label.append(name[0].toUpperCase() + name.slice(1).replaceAll("_", " ") + " ", told, slider);
  $("sliders").append(label);
}

// Those that were moved from where they change nothing.
function style() {
  const moved = [...$("sliders").querySelectorAll("input")].filter(({ name, value }) => Number(value) !== model.sliders[name][2]);
  return Object.fromEntries(moved.map(({ name, value }) => [name, Number(value)]));
}

// Nothing until it is moved: what hears a recording, and what hears the microphone, have weights of their own.
function guidance() {
  const { value, dataset } = $("guidance");
  return value === dataset.rest ? undefined : Number(value);
}

function settings() {
  const seed = Number($("seed").value);
  if (!Number.isSafeInteger(seed) || seed < 0) throw new Error("the seed must be a whole number");
  return { steps: counts[$("steps").value], guidance: guidance(), seed, style: style() };
}

function showWeights() {
  const found = Object.entries(stage.weights()).sort((a, b) => b[1] - a[1]).slice(0, METERS);
  const rows = $("shapes").children;
  while (rows.length < found.length) {
    const row = document.createElement("li");
    row.append(document.createElement("span"), document.createElement("meter"));
    $("shapes").append(row);
  }
  [...rows].forEach((row, i) => {
    row.hidden = !(found[i]?.[1] > 0.01);
    row.firstChild.textContent = found[i]?.[0] ?? "";
    row.lastChild.value = found[i]?.[1] ?? 0;
  });
}

// ---- playing

function place() { return state.sound ? state.sound.currentTime : state.playing ? state.at + (performance.now() - state.started) / 1000 : state.at; }

function show(time) {
  stage.setTime(time);
  $("time").value = time;
  $("clock").value = `${time.toFixed(1)} s`;
  showWeights();
}

function draw() {
  const time = Math.min(place(), state.length);
  show(time);
  if (state.playing && (time >= state.length || state.sound?.ended)) pause();
  if (state.playing) requestAnimationFrame(draw);
}

function pause() {
  state.at = Math.min(place(), state.length);
  state.playing = false;
  state.sound?.pause();
  $("play").textContent = "Play";
}

async function play() {
  if (place() >= state.length - 0.01) seek(0);
  if (state.sound) await state.sound.play();
  state.started = performance.now();
  state.playing = true;
  $("play").textContent = "Pause";
  requestAnimationFrame(draw);
}

function seek(time) {
  state.at = time;
  state.started = performance.now();
  if (state.sound) state.sound.currentTime = time;
  // As it was asked for: the sound may take a while to get there, or end a little before the picture.
  show(time);
}

// Show an animated head, with its sound where there is one (Blob).
async function openHead(glb, sound, name) {
  if (state.playing) pause();
  const { notes, length } = await stage.open(glb);
  state.urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
  state.sound = null;
  if (sound) {
    state.urls.push(URL.createObjectURL(sound));
    state.sound = new Audio(state.urls[0]);
  }
  Object.assign(state, { length, at: 0 });
  $("time").max = length;
  $("player").hidden = !(length > 0);
  for (const id of ["again", "save", "save-sound"]) $(id).hidden = true;
  draw();
  const missing = typeof notes.audio === "string" && !sound ? `, without its sound: drop ${notes.audio} along with it` : "";
  say(`${name}: ${length.toFixed(1)} s${missing}`);
}

async function start() {
  try { await play(); } catch { say(`${$("status").textContent}. Press Play.`); }
}

// ---- what is given

async function openFiles(files) {
  const glb = files.find((file) => /\.glb$/i.test(file.name));
  const other = files.find((file) => file !== glb);
  if (!glb) return speak(other);
  if (glb.size > MOST_GLB) throw new Error(`${glb.name} is too large for a browser`);
  await openHead(await glb.arrayBuffer(), other ?? null, glb.name);
  state.recording = null;
  await start();
}

async function speak(recording) {
  if (recording.size > model.most_bytes) throw new Error(`${recording.name} has more than ${model.most_bytes >> 20} MiB`);
  const made = await talk(recording, recording.name, settings(), (share) => say(share < 1 ? `Sending ${recording.name}: ${Math.round(100 * share)} %` : `Listening to ${recording.name}…`));
  const sound = new Blob([made.sound], { type: "audio/wav" });
  await openHead(made.glb, sound, recording.name);
  state.recording = recording;
  const steps = made.steps === 1 ? "1 step" : `${made.steps} steps`;
  say([`${recording.name}: ${made.frames} frames in ${steps}`, ...made.notes].join(". "));
  state.urls.push(URL.createObjectURL(new Blob([made.glb], { type: "model/gltf-binary" })));
  [$("save-sound").href, $("save").href] = state.urls;
  for (const id of ["again", "save", "save-sound"]) $(id).hidden = false;
  await start();
}

// Do one thing at a time, and say what went wrong with it.
async function attempt(work) {
  if (state.busy) return;
  state.busy = true;
  for (const id of ["open", "microphone", "again"]) $(id).disabled = true;
  try { await work(); } catch (error) { say(reason(error), true); }
  state.busy = false;
  for (const id of ["open", "microphone", "again"]) $(id).disabled = false;
}

async function given(files) {
  if (!files.length) return;
  stopListening();
  await attempt(() => openFiles(files));
}

// ---- the microphone

async function listen() {
  const microphone = new Microphone();
  const listener = new Listener(model.names.length);
  let dropped = 0, rate = 0, ready = false;
  try {
    await openHead(await (await fetch("/head.glb")).arrayBuffer(), null, "microphone");
    $("player").hidden = true;
    rate = await microphone.open((piece) => { if (ready && !listener.push(piece, rate)) dropped++; });
    const latency = await listener.start(rate, { ...settings(), look_ahead: Number($("ahead").value) }, (weights, frame, pose) => {
      stage.show(model.names, weights);
      if (pose) stage.place(pose);
      showWeights();
      state.frames = frame + 1;
      if (dropped > 50 && state.live) say("This machine is too slow for it: sound is left out", true);
    }, (text) => { if (state.live) { stopListening(); say(text || "The microphone is off", Boolean(text)); } });
    ready = true;
    state.live = { microphone, listener };
    $("microphone").setAttribute("aria-pressed", "true");
    $("microphone").textContent = "Stop listening";
    say(`Listening: the face follows ${Math.round(1000 * latency)} ms behind`);
  } catch (error) {
    microphone.close();
    listener.stop();
    throw error;
  }
}

function stopListening() {
  if (!state.live) return;
  const { microphone, listener } = state.live;
  state.live = null;
  microphone.close();
  listener.stop();
  $("microphone").setAttribute("aria-pressed", "false");
  $("microphone").textContent = "Speak into the microphone";
  say("The microphone is off");
}

// ---- begin

$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { given([...$("file").files]); $("file").value = ""; });
$("microphone").addEventListener("click", () => (state.live ? stopListening() : attempt(listen)));
$("play").addEventListener("click", () => (state.playing ? pause() : start()));
$("again").addEventListener("click", () => attempt(() => speak(state.recording)));
$("time").addEventListener("input", () => seek(Number($("time").value)));
let over = 0;
addEventListener("dragenter", () => { over++; $("drop").hidden = false; });
addEventListener("dragleave", () => { over = Math.max(0, over - 1); $("drop").hidden = over === 0; });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  over = 0;
  $("drop").hidden = true;
  given([...event.dataTransfer.files]);
});

setUpControls();
await attempt(async () => {
  const fetched = async (path) => (await fetch(path)).blob();
  if (!model.given.name) {
    await stage.open(await (await fetch("/head.glb")).arrayBuffer());
    say("Ready. Open a file, or speak.");
    return;
  }
  const sound = model.given.sound ? await fetched("/given.sound") : null;
  if (!model.given.glb) return speak(new File([sound], model.given.name));
  await openHead(await (await fetched("/given.glb")).arrayBuffer(), sound, model.given.name);
});

// For the console, and for tests: what is shown.
globalThis.facetalk = { state, settings, seek, pause, weights: () => stage.weights(), turned: () => stage.turned(), eyes: () => stage.eyes(), show: (names, weights) => stage.show(names, weights) };
