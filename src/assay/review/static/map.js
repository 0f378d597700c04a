// The map: a canvas with all points, moved and zoomed by mouse, finger or keys; a lasso picks a group for the queue.
"use strict";

const canvas = document.getElementById("map");
const context = canvas.getContext("2d");
const words = document.getElementById("map-words");
const colourBy = document.getElementById("colour");
const lassoButton = document.getElementById("lasso");
const openButton = document.getElementById("open");
const VERDICTS = ["realistic", "uncertain", "unrealistic", "indistinguishable"];
const view = { x: 0, y: 0, scale: 1 };
let points = null;
let groups = [];
let chosen = null;
let path = null;
let drag = null;
let waiting = false;

function read(buffer) {
  const count = new DataView(buffer).getUint32(0, true);
  const floats = (part) => new Float32Array(buffer, 4 + 4 * count * part, count);
  return {
    count,
    x: floats(0),
    y: floats(1),
    scores: floats(2),
    trained: floats(3),
    said: floats(4),
    items: new Uint32Array(buffer, 4 + 20 * count, count),
    verdict: new Uint8Array(buffer, 4 + 24 * count, count),
  };
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function colours() {
  const kind = colourBy.value;
  const scale = [0, 1, 2, 3, 4, 5].map((level) => css(`--m${level}`));
  const legend = [];
  const group = new Uint8Array(points.count);
  let names;
  if (kind === "verdict") {
    names = [...VERDICTS, "no verdict"];
    const palette = [...VERDICTS.map((name) => css(`--${name}`)), css("--none")];
    for (let i = 0; i < points.count; i++) group[i] = Math.min(points.verdict[i], 4);
    names.forEach((name, number) => legend.push([palette[number], name]));
  } else if (kind === "said") {
    legend.push([css("--none"), "not judged"]);
    scale.forEach((colour, level) => legend.push([colour, `judged ${level}`]));
    for (let i = 0; i < points.count; i++) group[i] = points.said[i] < 0 ? 0 : 1 + Math.round(points.said[i]);
  } else {
    const values = points[kind];
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const step = (high - low) / 6 || 1;
    for (let i = 0; i < points.count; i++) group[i] = Math.min(5, Math.floor((values[i] - low) / step));
    scale.forEach((colour, level) =>
      legend.push([colour, `${(low + level * step).toFixed(1)} to ${(low + (level + 1) * step).toFixed(1)}`]),
    );
  }
  groups = legend.map(([colour]) => ({ colour, members: [] }));
  for (let i = 0; i < points.count; i++) groups[group[i]].members.push(i);
  const list = document.getElementById("legend");
  list.replaceChildren(
    ...legend.map(([colour, name], number) => {
      const entry = document.createElement("li");
      const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      mark.setAttribute("viewBox", "0 0 10 10");
      mark.setAttribute("aria-hidden", "true");
      square.setAttribute("width", "10");
      square.setAttribute("height", "10");
      square.setAttribute("fill", colour);
      mark.append(square);
      entry.append(mark, `${name} (${groups[number].members.length})`);
      return entry;
    }),
  );
}

function fit() {
  let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < points.count; i++) {
    left = Math.min(left, points.x[i]);
    right = Math.max(right, points.x[i]);
    bottom = Math.min(bottom, points.y[i]);
    top = Math.max(top, points.y[i]);
  }
  const { width, height } = canvas.getBoundingClientRect();
  view.scale = 0.92 * Math.min(width / (right - left || 1), height / (top - bottom || 1));
  view.x = (left + right) / 2;
  view.y = (bottom + top) / 2;
}

function toScreen(i, width, height) {
  return [(points.x[i] - view.x) * view.scale + width / 2, (view.y - points.y[i]) * view.scale + height / 2];
}

function draw() {
  waiting = false;
  const start = performance.now();
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const size = points.count > 20000 ? 2 : points.count > 2000 ? 3 : 5;
  const [dx, dy] = [width / 2 - view.x * view.scale - size / 2, height / 2 + view.y * view.scale - size / 2];
  for (const { colour, members } of groups) {
    context.fillStyle = colour;
    for (const i of members) {
      const x = points.x[i] * view.scale + dx;
      const y = dy - points.y[i] * view.scale;
      if (x > -size && y > -size && x < width && y < height) context.fillRect(x, y, size, size);
    }
  }
  if (chosen) {
    context.strokeStyle = css("--ring");
    context.lineWidth = 1;
    context.beginPath();
    for (const i of chosen.slice(0, 5000)) {
      const [x, y] = toScreen(i, width, height);
      context.rect(x - size / 2 - 1.5, y - size / 2 - 1.5, size + 3, size + 3);
    }
    context.stroke();
  }
  if (path) {
    context.strokeStyle = css("--accent");
    context.lineWidth = 2;
    context.beginPath();
    path.forEach(([x, y], number) => (number ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.stroke();
  }
  canvas.dataset.milliseconds = (performance.now() - start).toFixed(1);
}

function redraw() {
  if (!waiting && points) {
    waiting = true;
    requestAnimationFrame(draw);
  }
}

function inside(x, y, outline) {
  let result = false;
  for (let a = 0, b = outline.length - 1; a < outline.length; b = a++) {
    const [xa, ya] = outline[a];
    const [xb, yb] = outline[b];
    if (ya > y !== yb > y && x < ((xb - xa) * (y - ya)) / (yb - ya) + xa) result = !result;
  }
  return result;
}

function pick(test) {
  const { width, height } = canvas.getBoundingClientRect();
  chosen = [];
  for (let i = 0; i < points.count; i++) {
    const [x, y] = toScreen(i, width, height);
    if (test(x, y, width, height)) chosen.push(i);
  }
  openButton.disabled = chosen.length === 0;
  words.textContent = `${chosen.length} items are selected.`;
  redraw();
}

function zoom(factor, x, y) {
  const { width, height } = canvas.getBoundingClientRect();
  view.x += ((x - width / 2) / view.scale) * (1 - 1 / factor);
  view.y -= ((y - height / 2) / view.scale) * (1 - 1 / factor);
  view.scale *= factor;
  redraw();
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

canvas.addEventListener("pointerdown", (event) => {
  if (!points) return;
  canvas.setPointerCapture(event.pointerId);
  const [x, y] = place(event);
  const lasso = (lassoButton.getAttribute("aria-pressed") === "true") !== event.shiftKey;
  drag = { x, y, lasso, moved: false };
  path = lasso ? [[x, y]] : null;
});

canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [x, y] = place(event);
  drag.moved ||= Math.hypot(x - drag.x, y - drag.y) > 4;
  if (drag.lasso) {
    path.push([x, y]);
  } else {
    view.x -= (x - drag.x) / view.scale;
    view.y += (y - drag.y) / view.scale;
    [drag.x, drag.y] = [x, y];
  }
  redraw();
});

canvas.addEventListener("pointerup", (event) => {
  if (!drag) return;
  const { lasso, moved } = drag;
  const outline = path;
  drag = path = null;
  if (lasso && moved) {
    pick((x, y) => inside(x, y, outline));
    return;
  }
  if (!moved) openNearest(...place(event));
  redraw();
});

canvas.addEventListener("pointercancel", () => {
  drag = path = null;
  redraw();
});

function openNearest(x, y) {
  const { width, height } = canvas.getBoundingClientRect();
  let best = 12;
  let found = -1;
  for (let i = 0; i < points.count; i++) {
    const [px, py] = toScreen(i, width, height);
    const away = Math.hypot(px - x, py - y);
    if (away < best) [best, found] = [away, i];
  }
  if (found >= 0) location.href = `/?item=${points.items[found]}`;
}

canvas.addEventListener(
  "wheel",
  (event) => {
    if (!points) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), ...place(event));
  },
  { passive: false },
);

canvas.addEventListener("keydown", (event) => {
  const { width, height } = canvas.getBoundingClientRect();
  const step = 60 / view.scale;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
  if (event.key in moves) {
    view.x += moves[event.key][0];
    view.y += moves[event.key][1];
  } else if (event.key === "+" || event.key === "=") zoom(1.3, width / 2, height / 2);
  else if (event.key === "-") zoom(1 / 1.3, width / 2, height / 2);
  else return;
  event.preventDefault();
  redraw();
});

lassoButton.addEventListener("click", () => {
  const on = lassoButton.getAttribute("aria-pressed") !== "true";
  lassoButton.setAttribute("aria-pressed", String(on));
  canvas.classList.toggle("pan", !on);
});

document.getElementById("whole").addEventListener("click", () => {
  fit();
  redraw();
});

document.getElementById("visible").addEventListener("click", () =>
  pick((x, y, width, height) => x >= 0 && y >= 0 && x <= width && y <= height),
);

openButton.addEventListener("click", () =>
  doing(async () => {
    await send("/api/selection", { places: chosen });
    location.href = "/";
  }),
);

colourBy.addEventListener("change", () => {
  colours();
  redraw();
});

window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (points) colours();
  redraw();
});

new ResizeObserver(redraw).observe(canvas);

fetch("/api/map")
  .then((answer) => {
    if (!answer.ok) throw new Error("the map could not be loaded");
    return answer.arrayBuffer();
  })
  .then((buffer) => {
    points = read(buffer);
    fit();
    colours();
    words.textContent = "Nothing is selected. Draw around points, or click one to look at it.";
    redraw();
  })
  .catch((error) => {
    words.textContent = `That did not work: ${error.message}`;
  });
