
// ---- Filters: a card with a histogram for numbers, one with buttons for texts ------------------------------------
// A card: isActive, takes(row), startCount, count(row), draw, clear, and its element `root`.

const MOST_BARS = 30;
// More different texts than this are names rather than kinds, and no filter.
const MOST_CHOICES = 40;
// Where the middle 99 % take less than half of the range, the outer bars also hold all that lies beyond.
const RARE = 0.005;
const RARE_STRETCH = 2;
// Of a bar's width: values on a border, as 0.3 is of 3 * 0.1, belong to the bar that begins there.
const BORDER_TOLERANCE = 1e-9;
const BAR_WIDTH = 10, BAR_GAP = 1, HISTOGRAM_HEIGHT = 100;
// A bar of one image among ten thousand is still to be seen.
const LEAST_HEIGHT = 2;

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// The root of a card, with its title and a button that clears it.
function cardRoot(column, clear) {
  const clearer = element("button", { type: "button", className: "clear", textContent: "clear" });
  clearer.setAttribute("aria-label", `Clear the filter ${spoken(column.name)}`);
  clearer.addEventListener("click", () => { clear(); update(); });
  const root = element("section", { className: "card" }, element("h3", {}, spoken(column.name), clearer));
  root.dataset.column = column.name;
  return root;
}

function choiceCard(column) {
  const { texts, values } = column;
  const chosen = new Set();
  const counts = new Uint32Array(texts.length);
  const clear = () => chosen.clear();
  const root = cardRoot(column, clear);
  const buttons = texts.map((text, index) => {
    const count = element("span");
    const button = element("button", { type: "button", className: "choice" }, element("span", { textContent: text }), count);
    button.addEventListener("click", () => {
      if (!chosen.delete(index)) chosen.add(index);
      update();
    });
    return { button, count };
  });
  for (const value of values) if (value !== null) counts[value]++;
  const byCount = Array.from(texts.keys()).sort((a, b) => counts[b] - counts[a]);
  root.append(...byCount.map((index) => buttons[index].button));
  return {
    root, clear,
    isActive: () => chosen.size > 0,
    takes: (row) => chosen.has(values[row]),
    startCount: () => counts.fill(0),
    count: (row) => { if (values[row] !== null) counts[values[row]]++; },
    draw() {
      root.classList.toggle("on", chosen.size > 0);
      buttons.forEach(({ button, count }, index) => {
        button.setAttribute("aria-pressed", chosen.has(index));
        count.textContent = whole(counts[index]);
      });
    },
  };
}

// Bars with round borders: {start, step, count}.
function bars(known) {
  const at = (share) => known[Math.round(share * (known.length - 1))];
  let [low, high] = [at(0), at(1)];
  if (at(1 - RARE) > at(RARE) && high - low > RARE_STRETCH * (at(1 - RARE) - at(RARE))) [low, high] = [at(RARE), at(1 - RARE)];
  const least = (high - low) / (MOST_BARS - 2);
  const power = 10 ** Math.floor(Math.log10(least));
  let step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => one >= least);
  if (known.every(Number.isInteger)) step = Math.max(1, Math.ceil(step));
  const start = Math.floor(low / step) * step;
  return { start, step, count: Math.floor((high - start) / step) + 1 };
}

function histogramCard(column) {
  const { values } = column;
  const known = knownValues(column);
  const { start, step, count } = bars(known);
  // 12 digits: without the errors of the last ones, 3 * 0.1 being 0.30000000000000004.
  const border = (bar) => Number((start + bar * step).toPrecision(12));
  const inRange = (bar) => Math.min(count - 1, Math.max(0, bar));
  const barOf = values.map((value) => (value === null ? null : inRange(Math.floor((value - start) / step + BORDER_TOLERANCE))));
  const inAll = new Uint32Array(count), inShown = new Uint32Array(count);
  for (const bar of barOf) if (bar !== null) inAll[bar]++;
  const scale = (HISTOGRAM_HEIGHT - LEAST_HEIGHT) / Math.max(...inAll);
  let low = null, high = null; // of what is taken, both included; null is open

  const path = (heights) => heights.reduce((drawn, images, bar) => {
    const height = images * scale + LEAST_HEIGHT;
    return images ? `${drawn}M${bar * BAR_WIDTH} ${HISTOGRAM_HEIGHT}v${-height}h${BAR_WIDTH - BAR_GAP}v${height}z` : drawn;
  }, "");
  const width = count * BAR_WIDTH - BAR_GAP;
  const all = svg("path", { class: "all", d: path(Array.from(inAll)) }), kept = svg("path", { class: "kept" });
  const plot = svg("svg", { viewBox: `0 0 ${width} ${HISTOGRAM_HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  plot.append(all, kept);

  const clear = () => { low = high = null; };
  const root = cardRoot(column, clear);
  const input = (label, placeholder, set) => {
    const made = element("input", { type: "number", step: "any", placeholder: short(placeholder, 3).replaceAll(",", "") });
    made.setAttribute("aria-label", `${label} ${spoken(column.name)}`);
    made.addEventListener("input", () => { set(made.value === "" ? null : Number(made.value)); scheduleUpdate(); });
    return made;
  };
  const least = input("Least", known[0], (value) => { low = value; });
  const most = input("Most", known[known.length - 1], (value) => { high = value; });
  root.append(plot, element("div", { className: "range" }, least, element("span", { textContent: "to" }), most));

  const isWhole = known.every(Number.isInteger);
  const barAt = (event) => {
    const box = plot.getBoundingClientRect();
    return inRange(Math.floor(((event.clientX - box.left) / box.width) * count));
  };
  let from = null; // bar where the pointer went down
  const select = (event) => {
    const [first, last] = [from, barAt(event)].sort((a, b) => a - b);
    low = first === 0 ? null : border(first);
    high = last === count - 1 ? null : border(last + 1) - (isWhole ? 1 : 0);
    least.value = low ?? "";
    most.value = high ?? "";
    scheduleUpdate();
  };
  plot.addEventListener("pointerdown", (event) => { from = barAt(event); plot.setPointerCapture(event.pointerId); select(event); });
  plot.addEventListener("pointermove", (event) => { if (from !== null) select(event); });
  for (const end of ["pointerup", "pointercancel"]) plot.addEventListener(end, () => { from = null; });

  return {
    root, clear,
    isActive: () => low !== null || high !== null,
    takes: (row) => values[row] !== null && (low === null || values[row] >= low) && (high === null || values[row] <= high),
    startCount: () => inShown.fill(0),
    count: (row) => { if (barOf[row] !== null) inShown[barOf[row]]++; },
    draw() {
      root.classList.toggle("on", low !== null || high !== null);
      if (low === null && least.value) least.value = "";
      if (high === null && most.value) most.value = "";
      const isIn = (bar) =>
        (low === null || border(bar + 1) > low || bar === count - 1) &&
        (high === null || border(bar) < high || (isWhole && border(bar) === high) || bar === 0);
      kept.setAttribute("d", path(Array.from(inShown, (images, bar) => (isIn(bar) ? images : 0))));
    },
  };
}

function isUseful({ values, texts }) {
  const one = values.find((value) => value !== null);
  return values.some((value) => value !== null && value !== one) && !(texts?.length > MOST_CHOICES);
}

function addCards(some, parent) {
  for (const column of some) {
    const card = column.texts ? choiceCard(column) : histogramCard(column);
    cards.push(card);
    parent.append(card.root);
  }
}

function makeCards() {
  addCards(columns.slice(0, data.firstColumns).filter(isUseful), byId("first"));
  const others = columns.slice(data.firstColumns).filter(isUseful);
  byId("more").hidden = !others.length;
  byId("more").addEventListener("toggle", () => {
    addCards(others.splice(0), byId("rest"));
    showCounts();
  });
}
