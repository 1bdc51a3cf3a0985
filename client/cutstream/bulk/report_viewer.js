
// ---- One image, large, before and after --------------------------------------------------------------------------

const viewer = byId("viewer");
const widths = columnNamed("source_width_px"), heights = columnNamed("source_height_px");
const NOT_SHOWN = "Not there any more, or in a format that browsers do not show";
// Where browsers turn a picture otherwise than the server, its sides do not fit, and the crop would be drawn at the wrong place.
const SIDES_TOLERANCE = 0.02;
let viewed = 0; // place in `shown`

function openViewer(place) {
  viewed = place;
  showImage(shown[place]);
  if (!viewer.open) viewer.showModal();
  viewer.scrollTop = 0;
}

function step(by) {
  if (viewed + by >= 0 && viewed + by < shown.length) openViewer(viewed + by);
}

function showImage(row) {
  byId("name").textContent = names[row];
  byId("position").textContent = `${whole(viewed + 1)} / ${whole(shown.length)}`;
  byId("previous").disabled = viewed === 0;
  byId("next").disabled = viewed === shown.length - 1;
  byId("failure").textContent = isFailed(row) ? `${valueText(outcome, row)}: ${data.messages[row]}` : "";
  byId("path").textContent = data.folder + names[row];
  byId("after-figure").hidden = isFailed(row);
  showSource(row);
  showCutout(row);
  byId("values").replaceChildren(...columns.slice(1).filter((column) => column.values[row] !== null).map((column) =>
    element("div", {}, element("dt", { textContent: spoken(column.name) }), element("dd", { textContent: valueText(column, row) }))));
  for (const neighbour of [viewed + 1, viewed - 1]) if (data.outputs[shown[neighbour]]) new Image().src = data.outputs[shown[neighbour]];
}

function link(id, href) {
  byId(id).hidden = href === null;
  if (href !== null) byId(id).href = href;
}

// Web addresses are links only: the page loads nothing from the network.
const isHere = (href) => href !== null && !/^https?:/.test(href);
const note = (text) => element("p", { className: "note", textContent: text });

// A frame of this size in source pixels, as large as its pane allows.
function frame(width, height, ...children) {
  const made = element("div", { className: "frame" }, ...children);
  made.style.setProperty("--ratio", width / height);
  return made;
}

// Places an element in a frame by a part of what the frame shows; both are {left, top, width, height}.
function put(child, part, view) {
  child.style.left = `${((part.left - view.left) / view.width) * 100}%`;
  child.style.top = `${((part.top - view.top) / view.height) * 100}%`;
  child.style.width = `${(part.width / view.width) * 100}%`;
  child.style.height = `${(part.height / view.height) * 100}%`;
  return child;
}

// The source's area and the crop in it; null where the crop is not known or does not fit the picture.
function areas(row, image) {
  if (!data.crops[row]) return null;
  const width = widths?.values[row] ?? image.naturalWidth, height = heights?.values[row] ?? image.naturalHeight;
  if (Math.abs((image.naturalWidth * height) / (image.naturalHeight * width) - 1) > SIDES_TOLERANCE) return null;
  const [left, top, cropWidth, cropHeight] = data.crops[row];
  return { source: { left: 0, top: 0, width, height }, crop: { left, top, width: cropWidth, height: cropHeight } };
}

// An image may arrive after another one was turned to; then it is too late.
function loadImage(row, href, alt, onError, onLoad) {
  const image = element("img", { alt });
  image.addEventListener("error", () => { if (shown[viewed] === row) onError(image); });
  image.addEventListener("load", () => { if (shown[viewed] === row) onLoad(image); });
  image.src = href;
}

function showSource(row) {
  const pane = byId("before"), href = data.inputs[row], crop = data.crops[row];
  link("before-link", href);
  byId("crop-text").textContent = crop ? `· crop ${short(crop[2])} × ${short(crop[3])} px at ${short(crop[0])}, ${short(crop[1])}` : "";
  pane.replaceChildren();
  if (!isHere(href)) {
    pane.append(note("The source is not on this machine; its address is below"));
    return;
  }
  loadImage(row, href, "Source image", () => pane.replaceChildren(note(NOT_SHOWN)), (image) => {
    const found = areas(row, image);
    if (!found) {
      pane.replaceChildren(frame(image.naturalWidth, image.naturalHeight, image));
      return;
    }
    // The crop may reach outside the image: the frame shows both.
    const { source, crop: part } = found;
    const left = Math.min(0, part.left), top = Math.min(0, part.top);
    const view = {
      left, top,
      width: Math.max(source.width, part.left + part.width) - left,
      height: Math.max(source.height, part.top + part.height) - top,
    };
    const border = put(element("div", { className: "crop" }), part, view);
    pane.replaceChildren(frame(view.width, view.height, put(image, source, view), border));
  });
}

function showCutout(row) {
  const pane = byId("after"), href = data.outputs[row];
  link("after-link", href);
  byId("after-text").textContent = "";
  pane.replaceChildren();
  if (href === null) {
    pane.append(note("No cutout that a browser could show: only metrics were asked for, or raw samples"));
    return;
  }
  const onError = (image) => {
    // A page that was passed on without the cutouts.
    if (data.thumbnails[row] && !image.src.endsWith(data.thumbnails[row])) image.src = data.thumbnailFolder + data.thumbnails[row];
    else pane.replaceChildren(note(NOT_SHOWN));
  };
  loadImage(row, href, "Cutout", onError, (image) => {
    byId("after-text").textContent = `· ${image.naturalWidth} × ${image.naturalHeight} px`;
    const made = frame(image.naturalWidth, image.naturalHeight, image);
    made.classList.add("ground");
    pane.replaceChildren(made);
    if (isHere(data.inputs[row])) addWipe(made, row);
  });
}

// Dragging over the cutout uncovers the same part of the source.
function addWipe(made, row) {
  loadImage(row, data.inputs[row], "", () => {}, (original) => {
    const found = areas(row, original);
    if (!found) return;
    const layer = element("div", { className: "original" }, put(original, found.source, found.crop));
    const slider = element("input", { type: "range", className: "wipe", min: 0, max: 100, step: "any", value: 0, title: "Drag to compare with the source" });
    slider.setAttribute("aria-label", "Compare with the source");
    const handle = element("div", { className: "handle" }), knob = element("div", { className: "knob", textContent: "↔" });
    slider.addEventListener("input", () => made.style.setProperty("--wipe", slider.value));
    made.append(layer, handle, knob, slider);
  });
}

function makeViewer() {
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("close", () => goTo(viewed));
  viewer.addEventListener("keydown", (event) => {
    if (event.target.matches("input")) return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
}

showHead();
makeBar();
makeCards();
makeSheet();
makeViewer();
update();
