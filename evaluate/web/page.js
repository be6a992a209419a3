"use strict";
// The page of `mrnn serve`. What the server answers goes into the page as text nodes and checked attributes, never as markup.

const SHOWN = 12; // pictures found by a sentence
const PAUSE = 200; // milliseconds without a key before a sentence is sent
const COLOURS = ["#2458a6", "#c2410c", "#15703a", "#7e3fb2", "#a8063c", "#0f7490", "#8a6d00", "#52606f"];
const byId = (name) => document.getElementById(name);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// ---- asking the server

// Each kind of question has one answer at a time: a newer question gives up the older one.
const asking = {};

async function ask(kind, query = {}, body = null) {
  asking[kind]?.abort();
  const control = (asking[kind] = new AbortController());
  const options = { signal: control.signal, method: kind === "pictures" || kind === "status" ? "GET" : "POST" };
  if (body) options.body = body;
  const answer = await fetch(`/api/${kind}?${new URLSearchParams(query)}`, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error || `the server answered with ${answer.status}`);
  return content;
}

function say(place, text, wrong = false) {
  place.textContent = text;
  place.classList.toggle("wrong", wrong);
}

function complain(place, error) {
  if (error.name !== "AbortError") say(place, error instanceof TypeError ? "The server cannot be reached." : `${error.message}.`, true);
}

function afterPause(work) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, PAUSE);
  };
}

// ---- what the server can do

let able = { captions: false, regions: false };
let ready = false;

async function status() {
  try {
    const found = await ask("status");
    able = found;
    const plural = found.pictures === 1 ? "picture" : "pictures";
    say(byId("about"), `${found.pictures.toLocaleString("en")} ${plural}, model ${found.model}`);
    const { label, done, total, error } = found.preparation;
    byId("preparing").hidden = found.preparation.ready || Boolean(error);
    byId("preparing-text").textContent = `Preparing the search by picture${label ? `: ${label}` : ""}`;
    if (total) Object.assign(byId("bar"), { max: total, value: done });
    if (error) say(byId("about"), `Search by picture is not possible: ${error}.`, true);
    if (found.preparation.ready && !ready) {
      ready = true;
      if (looked) findSentences();
    }
    if (!found.preparation.ready && !error) setTimeout(status, 1000);
  } catch (error) {
    complain(byId("about"), error);
    setTimeout(status, 3000);
  }
}

// ---- pictures by a sentence

async function findPictures() {
  const sentence = byId("sentence").value.trim();
  const note = byId("found-note");
  if (!sentence) {
    asking.pictures?.abort();
    byId("found").replaceChildren();
    return say(note, "");
  }
  try {
    const { found, unknown_words: unknown, method } = await ask("pictures", { sentence, top: SHOWN });
    const ignored = unknown.length ? `; not known to the model: ${unknown.join(", ")}` : "";
    say(note, `${method}${ignored}`);
    byId("found").replaceChildren(...found.map(hit));
  } catch (error) {
    complain(note, error);
  }
}

function hit(found) {
  const said = found.sentences[0] || found.id;
  const picture = element("img", { src: `/pictures/${found.id.split("/").map(encodeURIComponent).join("/")}`, alt: said, loading: "lazy" });
  const score = element("small", {}, `${found.rank}. score ${found.score.toFixed(2)}`);
  return element(
    "button",
    { type: "button", class: "hit", "data-id": found.id, title: found.sentences.join("\n"), onclick: () => look({ id: found.id, source: picture.src }) },
    picture,
    score,
    element("small", {}, said)
  );
}

// ---- a picture

let looked = null; // { file } or { id }, with `source`, the address of what is shown

function question() {
  return looked.file ? [{}, looked.file] : [{ id: looked.id }, null];
}

function look(picture) {
  if (looked?.file) URL.revokeObjectURL(looked.source);
  looked = picture;
  byId("looked").hidden = false;
  byId("name").textContent = picture.file ? picture.file.name : picture.id;
  byId("frame").replaceChildren(element("img", { src: picture.source, alt: "The chosen picture" }));
  for (const name of ["caption", "segments", "sentences"]) byId(name).replaceChildren();
  for (const name of ["word-note", "regions-note", "sentences-note"]) say(byId(name), "");
  byId("regions").hidden = !able.regions;
  byId("about-picture").value = "";
  byId("looked").scrollIntoView({ behavior: "smooth", block: "nearest" });
  describe();
  findSentences();
}

function choose(file) {
  if (file) look({ file, source: URL.createObjectURL(file) });
}

async function describe() {
  if (!able.captions) return say(byId("word-note"), "This model writes no captions.");
  say(byId("word-note"), "Looking …");
  try {
    const found = await ask("captions", ...question());
    say(byId("word-note"), "");
    byId("caption").replaceChildren(...found.words.flatMap((word) => [chip(word), " "]));
    if (able.regions) {
      byId("about-picture").value = found.caption;
      align();
    }
  } catch (error) {
    complain(byId("word-note"), error);
  }
}

function chip(word) {
  const text = word.word === "<end>" ? "⏎" : word.word;
  const percent = 100 * Math.exp(word.log_prob);
  const shown = element("small", {}, percent < 1 ? percent.toFixed(1) : percent.toFixed(0));
  const made = element("button", { type: "button", class: "word", title: explain(word), onclick: () => clicked(word) }, text, shown);
  if (word.parts) {
    const strength = Math.min(1, Math.abs(word.parts.image) / 5);
    made.style.backgroundColor = `rgba(${word.parts.image > 0 ? "240, 130, 20" : "40, 120, 220"}, ${(0.75 * strength).toFixed(3)})`;
  }
  return made;
}

function explain(word) {
  const text = word.word === "<end>" ? "The end" : `“${word.word}”`;
  const sure = `${text}: ${(100 * Math.exp(word.log_prob)).toFixed(1)} %`;
  if (!word.parts) return `${sure}.`;
  const factor = (value) => (value >= 0 ? `${Math.exp(value).toPrecision(3)} times as probable` : `${Math.exp(-value).toPrecision(3)} times less probable`);
  return `${sure}. The words before it made it ${factor(word.parts.words)}, the picture ${factor(word.parts.image)}.`;
}

function clicked(word) {
  say(byId("word-note"), explain(word));
  const said = [...byId("segments").querySelectorAll("button")].find((each) => each.textContent.split(" ").includes(word.word));
  if (said) show(said, true);
}

// ---- regions

async function align() {
  const sentence = byId("about-picture").value.trim();
  byId("segments").replaceChildren();
  boxes([]);
  if (!sentence) return say(byId("regions-note"), "");
  try {
    const [query, body] = question();
    const found = await ask("regions", { ...query, sentence }, body);
    say(byId("regions-note"), "Click a part of the sentence to see its region alone.");
    const segments = found.segments.map((segment, number) => ({ ...segment, colour: COLOURS[number % COLOURS.length] }));
    byId("segments").replaceChildren(...segments.map((segment) => segmentButton(segment, segments)));
    boxes(segments);
  } catch (error) {
    complain(byId("regions-note"), error);
  }
}

function segmentButton(segment, all) {
  const made = element("button", { type: "button", "aria-pressed": "false", title: `score ${segment.score.toFixed(2)}`, onclick: () => show(made, made.getAttribute("aria-pressed") !== "true") }, segment.words);
  made.style.borderColor = segment.colour;
  made.segment = segment;
  made.all = all;
  return element("li", {}, made);
}

function show(button, alone) {
  for (const each of byId("segments").querySelectorAll("button")) each.setAttribute("aria-pressed", String(alone && each === button));
  boxes(alone ? [button.segment] : button.all);
}

function boxes(segments) {
  const frame = byId("frame");
  for (const old of frame.querySelectorAll(".box")) old.remove();
  const picture = frame.querySelector("img");
  if (!segments.length || !picture) return;
  if (!picture.complete) return picture.addEventListener("load", () => boxes(segments), { once: true });
  // Segments that chose the same region share a box, with a label for each.
  const places = new Map();
  for (const segment of segments) places.set(segment.region, [...(places.get(segment.region) ?? []), segment]);
  for (const there of places.values()) {
    const [left, top, width, height] = there[0].rectangle.map((value, side) => (100 * value) / there[0].picture[side % 2]);
    if (!width || !height) continue;
    const labels = there.map((segment) => element("span", {}, segment.words));
    labels.forEach((label, number) => (label.style.backgroundColor = there[number].colour));
    const box = element("div", { class: "box" }, element("div", { class: "labels" }, ...labels));
    Object.assign(box.style, { left: `${left}%`, top: `${top}%`, width: `${width}%`, height: `${height}%`, borderColor: there[0].colour });
    frame.append(box);
  }
}

// ---- sentences by a picture

async function findSentences() {
  const note = byId("sentences-note");
  if (!ready) return say(note, "They follow when the search by picture is prepared.");
  try {
    const { found, method } = await ask("sentences", ...question());
    say(note, method);
    byId("sentences").replaceChildren(...found.map((each) => element("li", {}, `${each.sentences[0]} `, element("small", {}, each.score.toFixed(2)))));
  } catch (error) {
    complain(note, error);
  }
}

// ---- events

byId("sentence").addEventListener("input", afterPause(findPictures));
byId("about-picture").addEventListener("input", afterPause(align));
byId("file").addEventListener("change", (event) => choose(event.target.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") choose(event.dataTransfer.files[0]);
  });
}
status();
