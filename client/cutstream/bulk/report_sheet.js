
// ---- The contact sheet: only the tiles in sight are in the document ----------------------------------------------

const TILE_GAP = 12;
// As in the style sheet.
const CAPTION_HEIGHT = 44;
// On phones.
const LEAST_ACROSS = 2;
// Lines of tiles kept ready above and below, so that scrolling shows no gaps.
const SPARE_LINES = 3;

const scroller = byId("scroller"), sheet = byId("sheet");
const tiles = new Map(); // place in `shown` -> element
const grid = { space: 0, across: 1, width: 0, pitchX: 0, pitchY: 0 };
let current = 0; // place of the tile that the tabulator key goes to: it stays in the document

function showSheet() {
  current = 0;
  scroller.scrollTop = 0;
  layOut();
}

function layOut() {
  const wanted = Number(byId("size").value);
  grid.space = sheet.clientWidth;
  grid.across = Math.max(LEAST_ACROSS, Math.floor((grid.space + TILE_GAP) / (wanted + TILE_GAP)));
  grid.pitchX = (grid.space + TILE_GAP) / grid.across;
  grid.width = grid.pitchX - TILE_GAP;
  grid.pitchY = grid.width + CAPTION_HEIGHT + TILE_GAP;
  sheet.style.height = `${Math.ceil(shown.length / grid.across) * grid.pitchY}px`;
  for (const tile of tiles.values()) tile.remove();
  tiles.clear();
  drawTiles();
}

function drawTiles() {
  const lineAt = (pixels) => Math.floor((pixels - sheet.offsetTop) / grid.pitchY);
  const first = Math.max(0, lineAt(scroller.scrollTop) - SPARE_LINES) * grid.across;
  const end = Math.min(shown.length, (lineAt(scroller.scrollTop + scroller.clientHeight) + SPARE_LINES + 1) * grid.across);
  for (const [place, tile] of tiles) {
    if ((place >= first && place < end) || place === current) continue;
    tile.remove();
    tiles.delete(place);
  }
  for (let place = first; place < end; place++) if (!tiles.has(place)) addTile(place);
  if (shown.length && !tiles.has(current)) addTile(current);
}

function addTile(place) {
  const row = shown[place];
  const failed = isFailed(row);
  const picture = element("span", { className: "picture" });
  const thumbnail = data.thumbnails[row];
  if (thumbnail) picture.append(element("img", { src: data.thumbnailFolder + thumbnail, alt: "", decoding: "async", draggable: false }));
  else picture.append(element("span", { className: "none", textContent: "no picture" }));
  const verdict = validation ? valueText(validation, row) : "ok";
  if (!failed && verdict !== "ok" && verdict !== "–") picture.append(element("span", { className: "verdict", textContent: verdict }));
  const baseAt = names[row].lastIndexOf("/") + 1;
  const caption = element("span", { className: "caption" },
    line(element("span", { className: "foreign", textContent: names[row].slice(0, baseAt) }), element("span", { className: "foreign whole", textContent: names[row].slice(baseAt) })),
    failed ? line(element("span", { className: "reason", textContent: valueText(outcome, row) })) : metricLine(row));
  const tile = element("button", { type: "button", className: "tile", title: names[row], tabIndex: place === current ? 0 : -1 }, picture, caption);
  tile.classList.toggle("failed", failed);
  tile.classList.toggle("cut", data.outputs[row] !== null);
  tile.style.width = `${grid.width}px`;
  tile.style.height = `${grid.width + CAPTION_HEIGHT}px`;
  tile.style.transform = `translate(${(place % grid.across) * grid.pitchX}px, ${Math.floor(place / grid.across) * grid.pitchY}px)`;
  tile.addEventListener("click", () => openViewer(place));
  tiles.set(place, tile);
  sheet.append(tile);
}

const headline = columnNamed("confidence") ?? columns.find((column) => !column.texts);
const validation = columnNamed("validation");

// A line of a caption: what comes first is cut where the space ends, what is `whole` is not.
const line = (...parts) => element("span", { className: "line" }, ...parts);

// The metric that the sheet is sorted by.
function metricLine(row) {
  const column = order.column && order.column !== outcome ? order.column : headline;
  return column ? line(element("span", { textContent: spoken(column.name) }), element("span", { className: "whole value", textContent: valueText(column, row) })) : line();
}

function goTo(place) {
  tiles.get(current)?.setAttribute("tabindex", -1);
  current = Math.min(shown.length - 1, Math.max(0, place));
  const top = Math.floor(current / grid.across) * grid.pitchY;
  const bottom = top + grid.pitchY;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  else if (bottom + sheet.offsetTop > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = bottom + sheet.offsetTop - scroller.clientHeight;
  drawTiles();
  tiles.get(current)?.setAttribute("tabindex", 0);
  tiles.get(current)?.focus({ preventScroll: true });
}

function makeSheet() {
  scroller.addEventListener("scroll", drawTiles, { passive: true });
  new ResizeObserver(() => {
    // The height alone changes whenever a phone's browser hides its bar.
    if (sheet.clientWidth === grid.space) return drawTiles();
    layOut();
    showCounts(); // the cards may have come in sight
  }).observe(scroller);
  sheet.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(scroller.clientHeight / grid.pitchY)) * grid.across;
    const places = {
      ArrowLeft: current - 1, ArrowRight: current + 1, ArrowUp: current - grid.across, ArrowDown: current + grid.across,
      PageUp: current - page, PageDown: current + page, Home: 0, End: shown.length - 1,
    };
    if (!(event.key in places)) return;
    event.preventDefault();
    goTo(places[event.key]);
  });
}
