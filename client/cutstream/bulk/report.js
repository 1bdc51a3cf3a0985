"use strict";
// What the page knows is in `data`: a list for each property, all in the order of the images ("rows").
// Texts of the run reach the document as textContent or as attributes' values only, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const columns = data.columns;
const rowCount = data.names.length;
const byId = (id) => document.getElementById(id);

// Lengths in CSS pixels.
const GAP = 10;
const CAPTION_HEIGHT = 42;
// Rows of tiles kept ready above and below what is seen, so that scrolling does not show gaps.
const SPARE_LINES = 3;
const BINS = 28;
// A histogram's own coordinates; the style sheet stretches it.
const HIST_WIDTH = 240, HIST_HEIGHT = 52;
// More different texts than this are names rather than kinds, and no filter.
const MOST_CHOICES = 40;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const spoken = (name) => name.replaceAll("_", " ");
const number = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
const whole = (value) => value.toLocaleString("en");

function valueText(column, row) {
  const value = column.values[row];
  if (value === null) return "–";
  return column.texts ? column.texts[value] : number(value);
}

const outcome = columns[0];
const isFailed = (row) => outcome.texts[outcome.values[row]] !== "ok";

// ---- Filters and order -------------------------------------------------------------------------------------------

const filters = new Map(); // column -> (row) => boolean
const cards = [];
const lowerNames = data.names.map((name) => name.toLowerCase());
const order = { column: null, byName: false, descending: false };
let search = "";
let shown = []; // rows that pass, in order

function setFilter(column, test) {
  if (test) filters.set(column, test);
  else filters.delete(column);
  scheduleUpdate();
}

let updateWaits = false;
function scheduleUpdate() {
  if (updateWaits) return;
  updateWaits = true;
  requestAnimationFrame(() => {
    updateWaits = false;
    update();
  });
}

function passing() {
  const tests = [...filters.values()];
  if (search) tests.push((row) => lowerNames[row].includes(search));
  const rows = [];
  for (let row = 0; row < rowCount; row++) if (tests.every((test) => test(row))) rows.push(row);
  return rows;
}

const nameOrder = new Intl.Collator("en", { numeric: true });
let namePlaces = null; // row -> place in the order of names: ten thousand names take a while to compare

function sortKeys() {
  if (order.column) {
    const { values, texts } = order.column;
    return texts ? (row) => values[row] : (row) => values[row];
  }
  if (!order.byName) return (row) => row;
  if (!namePlaces) {
    namePlaces = new Int32Array(rowCount);
    const rows = Array.from(lowerNames.keys());
    rows.sort((a, b) => nameOrder.compare(data.names[a], data.names[b]));
    rows.forEach((row, place) => { namePlaces[row] = place; });
  }
  return (row) => namePlaces[row];
}

function sorted(rows) {
  const key = sortKeys();
  const sign = order.descending ? -1 : 1;
  // What has no value comes last either way; equals stay in the run's order.
  return rows.sort((a, b) => {
    const x = key(a), y = key(b);
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return sign * (x - y) || a - b;
  });
}

function update() {
  shown = sorted(passing());
  for (const card of cards) card.draw();
  byId("shown").textContent = `${whole(shown.length)} of ${whole(rowCount)} shown`;
  byId("reset").disabled = !filters.size && !search;
  byId("empty").hidden = shown.length > 0;
  current = 0;
  byId("scroller").scrollTop = 0;
  layOut();
}

// ---- Cards: a histogram for numbers, buttons for texts -----------------------------------------------------------

function makeCards() {
  const useful = columns.filter((column) =>
    column.texts ? column === outcome || (column.texts.length > 1 && column.texts.length <= MOST_CHOICES) : spread(column));
  const firstCount = useful.indexOf(outcome) + data.first + 1;
  useful.forEach((column, place) => {
    const card = column.texts ? choiceCard(column) : histogramCard(column);
    cards.push(card);
    byId(columns.indexOf(column) <= data.first ? "first" : "rest").append(card.root);
  });
  byId("more").hidden = !byId("rest").children.length;
}
