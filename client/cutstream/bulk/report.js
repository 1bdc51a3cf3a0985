"use strict";
// `data` has a list for each property, all in the order of the images ("rows"), see report.py.
// Texts of the run reach the document as textContent or as attributes' values only, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const { columns, names } = data;
const rowCount = names.length;
const outcome = columns[0];
const OK = outcome.texts.indexOf("ok");

const byId = (id) => document.getElementById(id);
const columnNamed = (name) => columns.find((column) => column.name === name);
const isFailed = (row) => outcome.values[row] !== OK;
const whole = (value) => value.toLocaleString("en");
const short = (value, digits = 4) => value.toLocaleString("en", { maximumSignificantDigits: digits });

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// "total_seconds" is "Total time (s)".
function spoken(name) {
  const text = name.replace(/_seconds$/, " time (s)").replace(/_px$/, " (px)").replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}

function valueText(column, row) {
  const value = column.values[row];
  if (value === null) return "–";
  return column.texts ? column.texts[value] : short(value);
}

// Those of a column that are known, ascending. Typed arrays sort numbers without a function that compares.
const knownValues = ({ values }) => Float64Array.from(values.filter((value) => value !== null)).sort();

// ---- What passes, and in which order -----------------------------------------------------------------------------

const lowerNames = names.map((name) => name.toLowerCase());
const cards = []; // see report_filters.js
const order = { key: (row) => row, column: null, descending: false };
let search = "";
let shown = []; // rows that pass, in order

// The rows that pass. A card counts what the other filters let through: what a change of its own would bring.
function passing() {
  const active = cards.filter((card) => card.isActive()), seen = cards.filter((card) => card.root.checkVisibility());
  const rows = [];
  for (const card of cards) card.startCount();
  for (let row = 0; row < rowCount; row++) {
    if (search && !lowerNames[row].includes(search)) continue;
    const refusing = active.filter((card) => !card.takes(row));
    if (refusing.length === 1) refusing[0].count(row);
    if (refusing.length) continue;
    rows.push(row);
    for (const card of seen) card.count(row);
  }
  return rows;
}

// What has no value comes last either way; equals stay in the run's order.
function sorted(rows) {
  const { key } = order;
  const sign = order.descending ? -1 : 1;
  return rows.sort((a, b) => {
    const x = key(a), y = key(b);
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return sign * (x - y) || a - b;
  });
}

// Ten thousand names take a while to compare: once, and not before it is wanted.
let namePlaces = null;
function placeOfName(row) {
  if (!namePlaces) {
    const { compare } = new Intl.Collator("en", { numeric: true });
    namePlaces = new Int32Array(rowCount);
    Array.from(names.keys()).sort((a, b) => compare(names[a], names[b])).forEach((of, place) => { namePlaces[of] = place; });
  }
  return namePlaces[row];
}

let updateWaits = false;
function scheduleUpdate() {
  if (updateWaits) return;
  updateWaits = true;
  requestAnimationFrame(() => { updateWaits = false; update(); });
}

// Cards that were not in sight have not counted.
function showCounts() {
  passing();
  for (const card of cards) card.draw();
}

function update() {
  shown = sorted(passing());
  for (const card of cards) card.draw();
  const isFiltered = search !== "" || cards.some((card) => card.isActive());
  byId("shown").textContent = isFiltered ? `${whole(shown.length)} of ${whole(rowCount)}` : `${whole(rowCount)} images`;
  byId("reset").hidden = !isFiltered;
  byId("empty").hidden = shown.length > 0;
  showSheet();
}

// ---- Head and bar ------------------------------------------------------------------------------------------------

function showHead() {
  const { done, failed } = data.totals;
  document.title = `${data.title} · Cutstream report`;
  byId("title").textContent = data.title;
  byId("subtitle").append(`Cutstream report of ${data.written}`);
  if (data.folder) byId("subtitle").append(" · images from ", element("span", { className: "foreign", textContent: data.folder }));
  // Rounded down: 100% are all.
  const percent = done && failed ? ` (${(Math.floor((done / (done + failed)) * 1000) / 10).toFixed(1)}%)` : "";
  const totals = [["images", whole(done + failed)], [`cut out${percent}`, whole(done)], ["failed", whole(failed)]];
  for (const [name, title, unit] of [["confidence", "median confidence", ""], ["total_seconds", "median time", " s"]]) {
    const column = columnNamed(name);
    const known = column ? knownValues(column) : [];
    if (known.length) totals.push([title, short(known[known.length >> 1], 3) + unit]);
  }
  for (const [title, value] of totals) {
    const entry = element("div", {}, element("dt", { textContent: title }), element("dd", { textContent: value }));
    entry.classList.toggle("bad", title === "failed" && failed > 0);
    byId("totals").append(entry);
  }
  if (rowCount < done + failed) {
    const shownFailed = names.filter((_, row) => isFailed(row)).length;
    byId("sample").hidden = false;
    byId("sample").textContent = `A sample: this page shows ${whole(rowCount - shownFailed)} of the ${whole(done)} images that were ` +
      `cut out and ${whole(shownFailed)} of the ${whole(failed)} that failed, chosen at random. The manifest has them all.`;
  }
}

function showDirection() {
  const word = order.descending ? "descending" : "ascending";
  byId("direction").replaceChildren(order.descending ? "↓" : "↑", element("span", { textContent: ` ${word}` }));
  byId("direction").setAttribute("aria-label", word);
}

function makeBar() {
  const choices = [["Order of the run", (row) => row, null], ["File name", placeOfName, null]];
  for (const column of columns) choices.push([spoken(column.name), (row) => column.values[row], column]);
  byId("sort").append(...choices.map(([text]) => new Option(text)));
  byId("sort").addEventListener("change", (event) => {
    const [, key, column] = choices[event.target.selectedIndex];
    Object.assign(order, { key, column });
    update();
  });
  byId("direction").addEventListener("click", () => {
    order.descending = !order.descending;
    showDirection();
    update();
  });
  showDirection();
  byId("search").addEventListener("input", (event) => {
    search = event.target.value.toLowerCase();
    scheduleUpdate();
  });
  byId("ground").addEventListener("change", (event) => { document.documentElement.dataset.ground = event.target.value; });
  byId("size").addEventListener("change", layOut);
  byId("toggle-filters").addEventListener("click", (event) => {
    const isOpen = byId("side").classList.toggle("open");
    event.currentTarget.setAttribute("aria-expanded", isOpen);
    showCounts();
  });
  byId("reset").addEventListener("click", () => {
    byId("search").value = search = "";
    for (const card of cards) card.clear();
    update();
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input, select") || byId("viewer").open) return;
    event.preventDefault();
    byId("search").focus();
  });
}
