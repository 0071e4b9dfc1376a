// The page of `recaption review`. Everything that comes from a row is set as text, never as markup.
"use strict";

const VERDICTS = ["ok", "minor", "hallucinated", "wrong_image", "unusable"];
const SVG = "http://www.w3.org/2000/svg";
const AHEAD = 2;

const $ = (id) => document.getElementById(id);
const words = (name) => name.replaceAll("_", " ");
// What is no number in a row comes as null.
const figure = (number) => (number === null ? "–" : number.toFixed(2));
const percent = (share) => `${(share * 100).toFixed(1)} %`;

let state = null;
let row = null;
let position = 0;
let busy = false;
// Times of the verdicts of this sitting, for the pace.
const times = [];
const rows = new Map();

function make(tag, text, ...classes) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  element.classList.add(...classes.filter(Boolean));
  return element;
}

async function ask(path, body) {
  const post = { method: "POST", headers: { "content-type": "application/json" } };
  const options = body === undefined ? {} : { ...post, body: JSON.stringify(body) };
  const response = await fetch(path, options);
  const text = await response.text();
  if (response.ok) return JSON.parse(text);
  let why = text;
  try { why = JSON.parse(text).error; } catch { /* plain words */ }
  throw new Error(why || `status ${response.status}`);
}

let fading = 0;

function say(text, kind) {
  const message = $("message");
  message.textContent = text;
  message.className = kind || "";
  clearTimeout(fading);
  // What went wrong stays until something else is said.
  if (kind !== "bad") fading = setTimeout(() => message.classList.add("gone"), 3000);
}

// One request at a time: a key that is held down must not judge rows that nobody has seen.
async function alone(work) {
  if (busy || !state) return;
  busy = true;
  try {
    await work();
  } catch (error) {
    say(error.message, "bad");
  } finally {
    busy = false;
  }
}

// ---- rows ----

function fetchRow(at) {
  if (!rows.has(at)) {
    const asked = ask(`api/rows/${at}`);
    asked.catch(() => rows.delete(at));
    rows.set(at, asked);
    if (rows.size > 30) rows.delete(rows.keys().next().value);
  }
  return rows.get(at);
}

function prefetch(at) {
  for (let next = at + 1; next <= at + AHEAD && next < state.verdicts.length; next++) {
    // The server keeps the last rows that were asked for, with their pictures.
    fetchRow(next).catch(() => {});
  }
}

async function show(at) {
  position = Math.max(0, Math.min(at, state.verdicts.length - 1));
  history.replaceState(null, "", `#${position + 1}`);
  const wanted = position;
  const found = await fetchRow(wanted);
  if (wanted !== position) return;
  row = found;
  closeEditor();
  drawRow();
  prefetch(wanted);
}

function drawRow() {
  document.body.dataset.position = row.position;
  $("position").textContent = `Row ${row.position + 1} of ${state.verdicts.length}`;
  $("key").textContent = row.key;
  drawScore();
  drawGenerated();
  drawTexts();
  drawFlags();
  drawTags();
  drawVerdict();
  const image = $("image");
  $("no-picture").hidden = true;
  $("frame").hidden = false;
  image.src = `picture/${row.position}`;
  drawBoxes();
}

function drawScore() {
  const level = row.score >= 0.8 ? "good" : row.score >= 0.5 ? "fair" : "poor";
  $("score").className = `score ${level}`;
  $("score").replaceChildren(make("small", "trust"), figure(row.score));
  $("score").title = `trust score; risk band ${row.band} of ${row.bands}`;
}

function drawGenerated() {
  const parts = row.pieces.map((piece) => {
    if (!piece.origin) return document.createTextNode(piece.text);
    const mark = make("mark", piece.text, piece.origin);
    const how = [piece.kind, piece.origin === "nowhere" ? "from nowhere" : `from ${piece.origin}`];
    if (piece.link) how.push(piece.link);
    mark.title = how.filter(Boolean).join(", ");
    return mark;
  });
  $("generated").replaceChildren(...parts);
}

function drawTexts() {
  const put = (id, text) => {
    $(id).textContent = text || "none";
    $(id).classList.toggle("quiet", !text);
  };
  put("synthetic", row.text_synthetic);
  put("raw", row.text_raw);
  for (const id of ["kept", "lost"]) {
    $(id).textContent = row[id].join(", ");
    $(id).hidden = $(`${id}-name`).hidden = row[id].length === 0;
  }
  $("writer").textContent = row.generated_model;
  $("writer").title = row.synthetic_model ? `synthetic caption by ${row.synthetic_model}` : "";
}

function drawFlags() {
  const flags = row.flags.map((flag) => {
    const item = make("li", words(flag.name));
    if (flag.evidence) item.append(" ", make("span", flag.evidence));
    return item;
  });
  $("flags").replaceChildren(...flags);
}

function drawTags() {
  const chips = row.tags.map((tag, number) => {
    const chip = make("li");
    chip.append(make("span", tag.label), " ", make("span", figure(tag.score), "quiet"));
    chip.title = tag.model;
    if (tag.box) {
      chip.classList.add("boxed");
      chip.tabIndex = 0;
      const light = (on) => () => lightUp(number, on);
      chip.addEventListener("mouseenter", light(true));
      chip.addEventListener("mouseleave", light(false));
      chip.addEventListener("focus", light(true));
      chip.addEventListener("blur", light(false));
    }
    return chip;
  });
  $("tags").replaceChildren(...chips);
}

function lightUp(number, on) {
  const box = $("boxes").querySelector(`[data-tag="${number}"]`);
  if (box) box.classList.toggle("lit", on);
  $("boxes").classList.toggle("one", on);
}

// Boxes are in pixels of the original, which is the coordinate system of the overlay; it is fitted into
// the frame as the picture is.
function drawBoxes() {
  const svg = $("boxes");
  svg.setAttribute("viewBox", `0 0 ${row.width} ${row.height}`);
  svg.setAttribute("preserveAspectRatio", "xMidYMid meet");
  const { clientWidth, clientHeight } = $("frame");
  const scale = Math.max(row.width / Math.max(1, clientWidth), row.height / Math.max(1, clientHeight));
  const size = 13 * scale;
  svg.replaceChildren(...row.tags.flatMap((tag, number) => {
    if (!tag.box) return [];
    const [left, top, right, bottom] = tag.box;
    const group = document.createElementNS(SVG, "g");
    group.dataset.tag = number;
    const box = document.createElementNS(SVG, "rect");
    const place = { x: left, y: top, width: right - left, height: bottom - top, rx: 3 * scale };
    for (const [name, value] of Object.entries(place)) box.setAttribute(name, Math.max(0, value));
    const label = document.createElementNS(SVG, "text");
    label.textContent = tag.label;
    label.setAttribute("x", Math.max(0, left) + 5 * scale);
    label.setAttribute("y", Math.max(0, top) + size * 1.15);
    label.setAttribute("font-size", size);
    label.setAttribute("stroke-width", 3 * scale);
    group.append(box, label);
    return [group];
  }));
}

// ---- verdicts ----

function drawVerdict() {
  for (const button of $("verdicts").children) {
    button.setAttribute("aria-pressed", String(button.dataset.verdict === row.verdict));
  }
  $("edited").hidden = row.edited === null;
  $("edited").textContent = row.edited === null ? "" : row.edited;
}

async function judge(verdict, text) {
  const edited = text === undefined ? row.edited : text;
  const changed = await ask("api/verdicts", { position: row.position, verdict, text: edited });
  times.push(Date.now());
  take(changed);
  const said = text === undefined ? words(verdict) : `${words(verdict)}, with your text`;
  say(`Row ${changed.position + 1}: ${said}`, verdict);
  if (text === undefined) await show(position + 1);
}

async function undo() {
  const changed = await ask("api/undo", {});
  rows.delete(changed.position);
  times.pop();
  take(changed);
  await show(changed.position);
  say(`Row ${changed.position + 1}: taken back`);
}

function take(changed) {
  state.verdicts[changed.position] = changed.verdict;
  state.statistics = changed.statistics;
  if (row && row.position === changed.position) {
    row.verdict = changed.verdict;
    row.edited = changed.edited;
    drawVerdict();
  }
  drawProgress();
  drawStatistics();
}

function skip() {
  const all = state.verdicts;
  const after = all.findIndex((verdict, at) => at > position && verdict === null);
  const open = after >= 0 ? after : all.findIndex((verdict, at) => at !== position && verdict === null);
  if (open < 0) say("Every row has a verdict.");
  else return show(open);
}

function openEditor() {
  $("text").value = row.edited === null ? row.text_generated : row.edited;
  $("editor").hidden = false;
  $("text").focus();
}

function closeEditor() {
  if ($("editor").hidden) return;
  $("editor").hidden = true;
  $("edit").focus();
}

function save() {
  const text = $("text").value.trim();
  if (text === "") return say("An empty text cannot be saved; 5 marks a row as unusable.", "bad");
  const edited = text === row.text_generated ? null : text;
  return alone(async () => {
    if (edited !== row.edited) await judge(row.verdict || "minor", edited);
    closeEditor();
  });
}

// ---- progress and statistics ----

function drawProgress() {
  const all = state.verdicts.length;
  const done = state.verdicts.filter((verdict) => verdict !== null).length;
  $("progress").max = all;
  $("progress").value = done;
  $("done").textContent = `${done} of ${all}`;
  $("pace").textContent = pace(all - done);
  document.title = `${done} of ${all} · ${state.run}`;
}

// Of the last verdicts only, so that a break does not count for long.
function pace(left) {
  if (left === 0) return "all done, thank you";
  const last = times.slice(-20);
  if (last.length < 3) return "";
  const each = (last[last.length - 1] - last[0]) / (last.length - 1);
  const minutes = (each * left) / 60000;
  const rest = minutes < 1 ? "less than a minute" : minutes < 90 ? `${Math.round(minutes)} min`
    : `${(minutes / 60).toFixed(1)} h`;
  return `${(60000 / Math.max(each, 1)).toFixed(0)} a minute, ${rest} left`;
}

function drawStatistics() {
  const seen = state.statistics;
  const parts = [];
  if (seen.rows === 0) {
    $("statistics").replaceChildren(make("p", "Nothing yet: press 1 to 5.", "quiet"));
    return;
  }
  parts.push(rate("not ok", seen.wrong), rate("hallucinated", seen.hallucinated));
  if (seen.weighted) {
    const { wrong, covered } = seen.weighted;
    const part = rate("not ok in the whole run", wrong);
    part.title = "Weighted by bands of scores; right where rows were drawn by chance (--by stratified)";
    if (covered < 1) {
      part.append(make("p", `${percent(1 - covered)} of the run not seen yet`, "quiet", "small"));
    }
    parts.push(part);
  }
  parts.push(counts(seen), flagTable(seen.flags), people(seen));
  $("statistics").replaceChildren(...parts);
}

function rate(name, of) {
  const part = make("div", null, "rate");
  part.append(make("h3", name), make("p", of.share === null ? "–" : percent(of.share), "big"));
  part.append(make("p", `${percent(of.low)} to ${percent(of.high)}`, "quiet", "small"));
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 6");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const bar = (kind, from, to) => {
    const rect = document.createElementNS(SVG, "rect");
    rect.setAttribute("class", kind);
    rect.setAttribute("x", from * 100);
    rect.setAttribute("width", Math.max(0.8, (to - from) * 100));
    rect.setAttribute("height", 6);
    return rect;
  };
  svg.append(bar("between", of.low, of.high));
  if (of.share !== null) svg.append(bar("at", Math.max(0, of.share - 0.006), of.share + 0.006));
  part.append(svg);
  return part;
}

function counts(seen) {
  const list = make("ul", null, "counts");
  list.setAttribute("aria-label", "Rows by verdict");
  for (const { verdict, rows: number } of seen.counts) {
    const item = make("li");
    item.append(make("span", null, "dot", verdict), make("span", words(verdict)), make("b", number));
    list.append(item);
  }
  return list;
}

function flagTable(flags) {
  const table = make("table");
  const head = make("tr");
  for (const name of ["flag", "right", "precision"]) head.append(make("th", name));
  table.append(head);
  for (const flag of flags) {
    const { part, whole, share, low, high } = flag.precision;
    const line = make("tr");
    line.append(make("td", words(flag.name)), make("td", `${part} of ${whole}`));
    const cell = make("td", share === null ? "–" : percent(share));
    cell.title = `95 %: ${percent(low)} to ${percent(high)}; `
      + `recall ${flag.recall.share === null ? "–" : percent(flag.recall.share)}`;
    line.append(cell);
    table.append(line);
  }
  return table;
}

function people(seen) {
  const names = Object.entries(seen.reviewers).map(([name, number]) => `${name} ${number}`);
  const part = make("p", names.join(", "), "quiet", "small");
  if (seen.agreement) {
    const { kappa, same, rows: number, pairs } = seen.agreement;
    const what = pairs > 1 ? "mean kappa" : "kappa";
    const value = kappa === null ? "–" : kappa.toFixed(2);
    part.append(make("br"), `${what} ${value}, ${percent(same)} the same on ${number} rows`);
  }
  return part;
}

// ---- keys ----

const KEYS = {
  e: () => openEditor(),
  u: () => alone(undo),
  j: () => alone(() => show(position + 1)),
  k: () => alone(() => show(position - 1)),
  ArrowRight: () => alone(() => show(position + 1)),
  ArrowLeft: () => alone(() => show(position - 1)),
  s: () => alone(skip),
  b: toggleBoxes,
  "?": () => $("help").showModal(),
};

function toggleBoxes() {
  const on = $("toggle").getAttribute("aria-pressed") !== "true";
  $("toggle").setAttribute("aria-pressed", String(on));
  $("boxes").classList.toggle("off", !on);
}

document.addEventListener("keydown", (event) => {
  if ($("help").open || !row) return;
  if (event.target === $("text")) {
    if (event.key === "Escape") { event.preventDefault(); closeEditor(); }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); save(); }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const number = Number(event.key);
  const verdict = event.key.length === 1 && number >= 1 ? VERDICTS[number - 1] : undefined;
  const action = verdict ? () => alone(() => judge(verdict)) : KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

function wire() {
  VERDICTS.forEach((verdict, number) => {
    const button = make("button", null, verdict);
    button.type = "button";
    button.dataset.verdict = verdict;
    button.setAttribute("aria-pressed", "false");
    button.append(make("kbd", number + 1), " ", make("span", words(verdict)));
    button.addEventListener("click", () => alone(() => judge(verdict)));
    $("verdicts").append(button);
  });
  const clicks = { edit: KEYS.e, undo: KEYS.u, toggle: KEYS.b, previous: KEYS.k, next: KEYS.j,
    "show-help": KEYS["?"], save, cancel: closeEditor };
  for (const [id, action] of Object.entries(clicks)) {
    $(id).addEventListener("click", () => { if (row) action(); });
  }
  $("editor").addEventListener("submit", (event) => event.preventDefault());
  $("image").addEventListener("load", () => { if (row) drawBoxes(); });
  $("image").addEventListener("error", () => {
    $("frame").hidden = true;
    $("no-picture").hidden = false;
  });
  addEventListener("resize", () => { if (row) drawBoxes(); });
  $("side").open = matchMedia("(min-width: 1100px)").matches;
}

async function begin() {
  wire();
  try {
    state = await ask("api/state");
    $("run").textContent = state.run;
    const order = state.by === "risk" ? "lowest score first" : `stratified, seed ${state.seed}`;
    $("about").textContent = `${state.reviewer} · ${order} · drawn from ${state.population} rows`;
    drawProgress();
    drawStatistics();
    const asked = Number(location.hash.slice(1));
    const known = Number.isInteger(asked) && asked >= 1 && asked <= state.verdicts.length;
    await show(known ? asked - 1 : state.next);
  } catch (error) {
    say(`The review cannot be opened: ${error.message}`, "bad");
  }
}

begin();
