"use strict";
// The gallery: cards, their order, search, retrieval. Everything shown comes from the JSON block "data" and goes into the
// page as text nodes or checked attributes, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const CARDS_AT_A_TIME = 24;
const QUERIES_AT_A_TIME = 6;
const FULL_COLOUR = Math.log(30); // a factor of 30 or more has the full colour

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name === "onclick") made.addEventListener("click", value);
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function picture(card, attributes = {}) {
  if (!card.picture.startsWith("data:image/")) return element("div", { class: "nothing" }, `${card.id}, no picture`);
  return element("img", { src: card.picture, alt: card.id, loading: "lazy", decoding: "async", ...attributes });
}

// ---- words and why

const percent = (p) => (p >= 0.01 ? String(Math.round(100 * p)) : "<1");

function precise(p) {
  return p >= 0.1 ? `${Math.round(100 * p)} %` : p >= 1e-4 ? `${Number((100 * p).toPrecision(2))} %` : "below 0.01 %";
}

function factor(nats) {
  const times = Math.exp(Math.abs(nats));
  const shown = times >= 10 ? Math.round(times).toLocaleString("en") : times.toFixed(1);
  if (shown === "1.0") return "as probable as before";
  return `${shown} times ${nats > 0 ? "more" : "less"} probable`;
}

function explain([word, base, words, image]) {
  return (
    `“${word}”: ${precise(Math.exp(base + words + image))}. Without context it has ${precise(Math.exp(base))}; ` +
    `the words before it make that ${precise(Math.exp(base + words))} (${factor(words)}), ` +
    `and the image makes it ${factor(image)}.`
  );
}

function colour([, base, words, image], mode) {
  if (mode === "probability") return `rgba(60, 130, 220, ${(0.06 + 0.5 * Math.exp(base + words + image)).toFixed(3)})`;
  const nats = mode === "image" ? image : words;
  const strength = Math.min(Math.abs(nats) / FULL_COLOUR, 1);
  return `rgba(${nats > 0 ? "240, 130, 20" : "40, 120, 220"}, ${(0.75 * strength).toFixed(3)})`;
}

function chosenColour() {
  const chosen = document.querySelector('input[name="colour"]:checked');
  return chosen ? chosen.value : "image";
}

function caption(said) {
  const paragraph = element("p", { class: "caption" });
  const note = element("p", { class: "note small", "aria-live": "polite" });
  for (const entry of said.words) {
    const word = entry[0] === "<end>" ? "⏎" : entry[0];
    if (entry.length === 1) {
      if (entry[0] !== "<end>") paragraph.append(element("span", {}, `${word} `));
      continue;
    }
    const probability = Math.exp(entry[1] + entry[2] + entry[3]);
    const chip = element(
      "button",
      { type: "button", class: "word", title: explain(entry), onclick: () => (note.textContent = explain(entry)) },
      word,
      element("small", {}, percent(probability))
    );
    chip.entry = entry;
    chip.style.backgroundColor = colour(entry, chosenColour());
    paragraph.append(chip, " ");
  }
  const ends = said.words.length && said.words[said.words.length - 1][0] === "<end>";
  if (said.words.some((entry) => entry.length > 1) && !ends) paragraph.append(element("span", { class: "small" }, "(cut)"));
  return [paragraph, note];
}

for (const input of document.querySelectorAll('input[name="colour"]')) {
  input.addEventListener("change", () => {
    for (const chip of document.querySelectorAll(".word")) chip.style.backgroundColor = colour(chip.entry, chosenColour());
  });
}

// ---- cards

function list(title, items, open = true) {
  if (!items.length) return null;
  return element("details", open ? { open: "" } : {}, element("summary", {}, title), element("ul", {}, ...items));
}

function sentences(pairs) {
  return pairs.map(([sentence, right]) => element("li", right ? { class: "right" } : {}, right ? `${sentence} ✓` : sentence));
}

function scoreLine(card) {
  const line = element("p", { class: "scores" });
  for (const score of data.scores) {
    const value = card.scores[score.key];
    if (value === undefined) continue;
    line.append(element("span", {}, `${score.label} `, element("b", {}, value.toFixed(score.digits))), " ");
  }
  return line.childNodes.length ? line : null;
}

function buildCard(card) {
  const parts = [];
  card.said.forEach((said, number) => {
    if (data.systems.length) parts.push(element("h3", { class: `system s${number}` }, data.systems[number]));
    parts.push(...caption(said));
    const others = said.others.map(([sentence, logProb]) =>
      element("li", {}, `${sentence} `, element("small", {}, logProb.toFixed(2)))
    );
    parts.push(list("Other captions of the search, log-probability", others, false));
  });
  const rank = card.rank === null ? "" : `, first own one at rank ${card.rank.toLocaleString("en")}`;
  return element(
    "article",
    { "data-id": card.id },
    picture(card),
    element(
      "div",
      { class: "said" },
      ...parts,
      list("References", sentences(card.references.map((sentence) => [sentence, false]))),
      list(`Retrieved sentences${rank}`, sentences(card.retrieved), false),
      scoreLine(card),
      element("p", { class: "id" }, card.id)
    )
  );
}

// ---- order, filter, search

const byId = (name) => document.getElementById(name);
const spokenText = (card) =>
  [card.id, ...card.references, ...card.said.map((said) => said.words.map(([word]) => word).join(" "))].join("\n").toLowerCase();
let chosen = [];
let shown = 0;

function choose() {
  const key = byId("sort").value;
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [from, to] = ["from", "to"].map((name) => byId(name).value);
  byId("range").disabled = byId("order").disabled = !key;
  chosen = data.cards.filter((card) => {
    const value = card.scores[key];
    if (key && from !== "" && !(value >= Number(from))) return false;
    if (key && to !== "" && !(value <= Number(to))) return false;
    if (!words.length) return true;
    card.text ??= spokenText(card);
    return words.every((word) => card.text.includes(word));
  });
  if (key) {
    const sign = byId("order").value === "up" ? 1 : -1;
    const place = (card) => (card.scores[key] === undefined ? Infinity : sign * card.scores[key]);
    chosen.sort((a, b) => (place(a) < place(b) ? -1 : place(a) > place(b) ? 1 : 0));
  }
  byId("gallery").replaceChildren();
  shown = 0;
  showMore();
}

function showMore() {
  const next = chosen.slice(shown, shown + CARDS_AT_A_TIME);
  byId("gallery").append(...next.map(buildCard));
  shown += next.length;
  const total = data.cards.length.toLocaleString("en");
  byId("count").textContent = `${chosen.length.toLocaleString("en")} of ${total} images, the first ${shown} shown`;
  byId("more").hidden = shown >= chosen.length;
}

function findImage(card) {
  byId("tools").reset();
  byId("search").value = card.id;
  choose();
  byId("images").scrollIntoView();
}

if (data.cards.length) {
  byId("sort").append(
    element("option", { value: "" }, "order of the data set"),
    ...data.scores.map((score) => element("option", { value: score.key }, score.label))
  );
  byId("sort").addEventListener("change", () => {
    const score = data.scores.find((each) => each.key === byId("sort").value);
    if (score) byId("order").value = score.order;
    byId("from").value = byId("to").value = "";
  });
  byId("tools").addEventListener("input", (event) => {
    if (event.target.name !== "colour") choose();
  });
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", showMore);
  if (data.systems.length && data.scores.length) {
    byId("sort").value = data.scores[0].key;
    byId("order").value = data.scores[0].order;
  }
  choose();
}

// ---- retrieval: queries by how near the first right answer came

const CLASSES = [
  ["right", "Right (rank 1)", (rank) => rank === 1],
  ["near", "Near (2 to 10)", (rank) => rank > 1 && rank <= 10],
  ["wrong", "Wrong (after 10)", (rank) => rank > 10],
];

function small(card, attributes = {}) {
  const shownRank = attributes.rank ? element("small", {}, attributes.rank) : null;
  return element(
    "button",
    { type: "button", class: `thumb ${attributes.right ? "right" : ""}`, title: `${card.id}: show its card`, onclick: () => findImage(card) },
    picture(card),
    shownRank
  );
}

function imageQuery(card) {
  const own = card.rank === 1 ? null : element("p", { class: "small" }, `Its own first at rank ${card.rank.toLocaleString("en")}. `);
  return element("div", { class: "query" }, small(card), element("div", { class: "said" }, element("ol", {}, ...sentences(card.retrieved)), own));
}

function sentenceQuery([sentence, image, rank, found]) {
  const row = element("div", { class: "strip" }, ...found.map((number) => small(data.cards[number], { right: number === image })));
  if (!found.includes(image)) row.append(small(data.cards[image], { right: true, rank: `rank ${rank.toLocaleString("en")}` }));
  return element("div", { class: "query column" }, element("p", { class: "asked" }, sentence), row);
}

function retrieval(place, queries, rankOf, build) {
  if (!place || !queries.length) return;
  const shownHere = element("div", { class: "queries" });
  const more = element("button", { type: "button" }, "Show more");
  let current = [];
  let count = 0;
  function extend() {
    const next = current.slice(count, count + QUERIES_AT_A_TIME);
    shownHere.append(...next.map(build));
    count += next.length;
    more.hidden = count >= current.length;
  }
  more.addEventListener("click", extend);
  const buttons = CLASSES.map(([name, label, belongs]) => {
    const these = queries.filter((query) => belongs(rankOf(query)));
    return element(
      "button",
      {
        type: "button",
        class: `class ${name}`,
        "aria-pressed": "false",
        onclick: (event) => {
          for (const other of buttons) other.setAttribute("aria-pressed", String(other === event.currentTarget));
          current = these;
          count = 0;
          shownHere.replaceChildren();
          extend();
        },
      },
      `${label}: ${these.length.toLocaleString("en")}`
    );
  });
  place.append(element("p", { class: "classes" }, ...buttons), shownHere, element("p", { class: "more" }, more));
  buttons[0].click();
}

retrieval(byId("by-image"), data.cards.filter((card) => card.rank !== null), (card) => card.rank, imageQuery);
retrieval(byId("by-sentence"), data.questions, (question) => question[2], sentenceQuery);
