// The page: one socket for each microphone or recording, a card for each model. docs/serve.md describes the messages.
import { align } from "./words.js";

const VERSION = 1;
const SLICE = 65536; // bytes of a file in one message
const SENT_AHEAD = 1 << 20; // bytes of a file that may wait in this browser
const LAGGING = 1 << 22; // bytes of a microphone that may
const FLUSHED = 1000; // ms in which a stopped microphone hands over what it has
const COMPARED = 2000; // words at most
const MEDIAN_OF = 51; // latest latencies

const at = (id) => document.getElementById(id);
const cards = new Map();
let limits = {};
let stopSpeaking = null;
let stopReading = null;

function state(name) {
  document.body.dataset.state = name;
  const idle = name === "idle" || name === "done";
  at("speak").disabled = !(idle || name === "listening");
  at("choose").disabled = !(idle || name === "reading");
  at("choose").textContent = name === "reading" ? "Stop" : "Choose a recording";
  at("speak-label").textContent = name === "listening" ? "Stop" : "Speak";
}

function say(text, wrong = false) {
  if (at("status").textContent !== text) at("status").textContent = text; // which screen readers read out
  at("clock").textContent = "";
  at("status").classList.toggle("wrong", wrong);
}

class Card {
  constructor(facts, index) {
    const made = at("card").content.cloneNode(true);
    this.find = (selector) => this.root.querySelector(selector);
    this.root = made.querySelector("article");
    this.root.dataset.model = facts.name;
    this.find(".key").classList.add(`s${index % 8}`);
    this.find("h2").textContent = facts.name;
    this.find(".heard").setAttribute("aria-label", `what ${facts.name} hears`);
    this.find(".bits").textContent = facts.bits === 32 ? "float32" : `${Number(facts.bits.toFixed(2))} bits`;
    const smaller = facts.fp32_bytes / facts.model_bytes;
    const small = document.createElement("small");
    small.textContent = smaller > 1.05 ? ` ${smaller.toFixed(1)}× smaller` : "";
    this.find(".bytes").append(megabytes(facts.model_bytes), small);
    at("models").append(made);
    this.clear();
  }

  clear(paced = true) {
    this.finals = [];
    this.latencies = [];
    this.open = null;
    this.done = false;
    this.find(".heard").replaceChildren();
    this.find(".heard").ariaBusy = "false";
    this.find(".factor").textContent = "–";
    this.find(".latency").textContent = paced ? "–" : "at the speed of speech only";
    this.find(".latency").classList.toggle("none", !paced);
    this.find(".count").textContent = "";
  }

  hear(message) {
    this.measure(message);
    const box = this.find(".heard");
    box.ariaBusy = String(!message.final); // screen readers wait for the whole segment
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    if (!this.open && message.text) box.append(this.open = document.createElement("p"));
    if (this.open) {
      this.open.textContent = message.text;
      this.open.className = message.final ? "" : "open";
    }
    if (message.final) {
      this.finals.push(message.text);
      this.open = null;
    }
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  measure(message) {
    if (message.sound > 0) this.find(".factor").textContent = (message.spent / message.sound).toPrecision(2);
    if (message.latency === undefined || message.latency === null) return;
    this.latencies.push(message.latency);
    const latest = this.latencies.slice(-MEDIAN_OF).sort((a, b) => a - b);
    this.find(".latency").textContent = milliseconds(latest[latest.length >> 1]);
  }

  finish(message) {
    this.measure(message);
    this.done = true;
    this.find(".heard").ariaBusy = "false";
    if (this.finals.length) return;
    const none = document.createElement("p");
    none.className = "none";
    none.textContent = "no words";
    this.find(".heard").replaceChildren(none);
  }

  words() {
    return this.finals.flatMap((text) => text.split(/\s+/).filter(Boolean));
  }

  mark(reference) {
    const words = this.words();
    if (Math.max(words.length, reference.length) > COMPARED) return;
    const pairs = align(words, reference);
    const differ = pairs.filter(([word, other]) => word !== other).length;
    this.find(".count").textContent = differ ? `${differ} word${differ > 1 ? "s" : ""} differ${differ > 1 ? "" : "s"}` : "the same words";
    if (!differ || !words.length) return;
    at("marks").hidden = false;
    const paragraphs = [...this.find(".heard").children];
    const lengths = this.finals.map((text) => text.split(/\s+/).filter(Boolean).length);
    paragraphs.forEach((paragraph) => paragraph.replaceChildren());
    let place = 0;
    let left = lengths[0];
    for (const pair of pairs) {
      if (pair[0] !== null && !left) left = lengths[++place];
      append(paragraphs[place], pair);
      if (pair[0] !== null) left -= 1;
    }
  }
}

function append(paragraph, [word, other]) {
  if (word !== null && paragraph.textContent) paragraph.append(" ");
  if (word === other) { paragraph.append(word); return; }
  const mark = document.createElement("mark");
  if (word === null) mark.className = "deleted";
  else mark.textContent = word;
  if (other !== null) mark.title = word === null ? `missing: ${other}` : `first model: ${other}`;
  paragraph.append(mark);
}

const megabytes = (bytes) => `${(bytes / 1e6).toPrecision(3)} MB`;
const milliseconds = (seconds) => `${(1e3 * seconds).toPrecision(seconds < 1 ? 2 : 3).replace(/e\+\d+$/, "")} ms`;
const pause = (time) => new Promise((done) => setTimeout(done, time));

// A socket that has said what it is for; ``ended`` is fulfilled when the server has closed it.
async function connect(start) {
  for (const card of cards.values()) card.clear(start.type === "samples" || start.paced);
  at("marks").hidden = true;
  const url = new URL("live", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  let refusal = null;
  socket.addEventListener("message", (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "error") refusal = message.message;
    else if (message.type === "transcript") cards.get(message.model).hear(message);
    else if (message.type === "done") cards.get(message.model).finish(message);
  });
  socket.ended = new Promise((done) => socket.addEventListener("close", (event) => done(
    refusal ?? (event.code === 1000 ? null : event.reason || "the connection to the server was lost"))));
  await new Promise((done, fail) => {
    socket.addEventListener("open", done);
    socket.ended.then((why) => fail(new Error(why)));
  });
  socket.send(JSON.stringify({ version: VERSION, ...start }));
  return socket;
}

// Wait until all models have said all; then show where they differ.
async function finish(socket, said) {
  const why = await socket.ended;
  if (why) throw new Error(why);
  const [first, ...others] = cards.values();
  for (const card of others) card.mark(first.words());
  say(said);
  state("done");
}

async function recording(file) {
  let socket = null;
  let stopped = false;
  stopReading = () => {
    stopped = true;
    socket?.close();
  };
  state("reading");
  try {
    if (!file.size) throw new Error(`${file.name} is empty`);
    if (file.size > limits.file_bytes) throw new Error(`a recording has at most ${megabytes(limits.file_bytes)}`);
    socket = await connect({ type: "file", name: file.name.slice(-255) || "recording", bytes: file.size, paced: at("paced").checked });
    say(`${file.name}, ${megabytes(file.size)} …`);
    const slice = Math.min(SLICE, limits.message_bytes);
    if (stopped) socket.close();
    for (let from = 0; from < file.size && socket.readyState === WebSocket.OPEN; from += slice) {
      socket.send(await file.slice(from, from + slice).arrayBuffer());
      while (socket.bufferedAmount > SENT_AHEAD && socket.readyState === WebSocket.OPEN) await pause(20);
    }
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "end" }));
    await finish(socket, file.name);
  } catch (error) {
    socket?.close();
    fail(stopped ? "Stopped." : error.message, !stopped);
  } finally {
    stopReading = null;
  }
}

async function microphone() {
  state("opening");
  say("Waiting for the microphone …");
  let media = null;
  let context = null;
  let socket = null;
  try {
    if (!navigator.mediaDevices) throw new Error("browsers give a microphone to pages on localhost and over https only");
    media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
    context = new AudioContext({ latencyHint: "playback" }); // larger buffers: no sound is lost on a busy machine
    await context.audioWorklet.addModule("microphone.js");
    const source = context.createMediaStreamSource(media);
    const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    socket = await connect({ type: "samples", rate: context.sampleRate, encoding: "float32" });
    await listen(socket, source, node);
    state("finishing");
    release(media, context);
    await finish(socket, "That was all.");
  } catch (error) {
    socket?.close();
    const denied = error.name === "NotAllowedError" || error.name === "NotFoundError";
    fail(denied ? `No microphone: ${error.message}` : error.message);
  } finally {
    stopSpeaking = null;
    release(media, context);
  }
}

// Sends what the microphone hears, until it is stopped or the socket closes.
async function listen(socket, source, node) {
  const begin = performance.now();
  await new Promise((done) => {
    let lagging = false;
    node.port.onmessage = ({ data }) => {
      if (data === null) { done(); return; }
      if (socket.readyState !== WebSocket.OPEN) return;
      lagging ||= socket.bufferedAmount > LAGGING;
      if (!lagging) socket.send(data);
      at("level").style.transform = `scaleX(${Math.min(1, 1.6 * Math.sqrt(peak(new Float32Array(data))))})`;
      say(lagging ? "Stopped: this machine does not keep up." : "Listening", lagging);
      if (!lagging) at("clock").textContent = clock(performance.now() - begin);
      if (lagging) stopSpeaking();
    };
    stopSpeaking = () => {
      node.port.postMessage("stop");
      setTimeout(done, FLUSHED); // a device that was unplugged hands over nothing more
    };
    source.mediaStream.getAudioTracks()[0].addEventListener("ended", stopSpeaking);
    socket.ended.then(done);
    source.connect(node);
    state("listening");
    say("Listening");
  });
  source.disconnect();
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "end" }));
}

function release(media, context) {
  for (const track of media?.getTracks() ?? []) track.stop();
  if (context && context.state !== "closed") context.close();
}

function fail(line, wrong = true) {
  for (const card of cards.values()) card.find(".heard").ariaBusy = "false";
  say(line, wrong);
  state("done");
}

const peak = (samples) => samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const clock = (time) => `${Math.floor(time / 60000)}:${String(Math.floor(time / 1000) % 60).padStart(2, "0")}`;
const idle = () => document.body.dataset.state === "idle" || document.body.dataset.state === "done";

at("speak").addEventListener("click", () => (stopSpeaking ? stopSpeaking() : microphone()));
at("choose").addEventListener("click", () => (stopReading ? stopReading() : at("file").click()));
at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  at("file").value = "";
  if (file) recording(file);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.toggle("dropping", idle());
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (file && idle()) recording(file);
});

try {
  const facts = await (await fetch("models")).json();
  if (facts.version !== VERSION) throw new Error("this page is older than its server: load it again");
  limits = facts.limits;
  facts.models.forEach((model, index) => cards.set(model.name, new Card(model, index)));
  at("place").textContent = `at ${location.host}`;
  say("");
  state("idle");
} catch (error) {
  say(`The server does not answer: ${error.message}`, true);
}
