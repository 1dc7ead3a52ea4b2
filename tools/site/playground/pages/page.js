// What every toy's page shares: loading, pictures, tokens, and what is said to a screen reader.

import { load } from "./networks.js";

export const SIDE = 32, IMAGE = 3 * SIDE * SIDE;
let start = 0;                         // when the last byte had come

export const find = (id) => document.getElementById(id);
export const breathe = () => new Promise((go) => setTimeout(go));     // time for the page to paint

// A new element: make("button", { textContent: "Go" }, child, …).
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function failed(error) {
  find("loading").hidden = false;
  find("loading").dataset.failed = true;
  find("said").textContent = `This toy has stopped (${error.message}). Load the page again; if ` +
    "it stops again, another browser may do.";
}

// Fetch the named networks and the reader, show how far it is, then let the toy begin.
export async function open(names, begin) {
  window.addEventListener("unhandledrejection", (event) => failed(event.reason));
  const all = [...names, "classifier"], bar = find("bar"), mega = (n) => (n / 1e6).toFixed(1);
  const { tables, networks } = await load(all, (sofar, total) => {
    if (find("loading").dataset.failed) return;      // another file's progress says no more
    bar.max = total;
    bar.value = sofar;
    find("said").textContent = sofar < total ? `Loading: ${mega(sofar)} of ${mega(total)} MB.`
                                             : "Getting ready.";
    start = performance.now();
  });
  find("loading").hidden = true;
  find("toy").hidden = false;
  await begin(networks, tables);
  document.documentElement.dataset.ready = true;
}

// Only the newest call counts: one runs, one waits, those between are dropped. While any runs,
// the page is marked as busy.
let running = 0;
function busy(change) {
  running += change;
  document.documentElement.toggleAttribute("data-busy", running > 0);
}

export function latest(work) {
  let waiting = null, going = null;
  async function go() {
    busy(1);
    try {
      while (waiting) {
        const given = waiting;
        waiting = null;
        await work(...given);
      }
    } finally {
      going = null;
      busy(-1);
    }
  }
  const run = (...given) => {
    waiting = given;
    return (going ??= go());
  };
  run.stale = () => waiting !== null;
  return run;
}

// Image k of a batch onto a canvas at (x, y), and its numbers kept beside it.
export function paint(canvas, images, k = 0, x = 0, y = 0) {
  const values = images.slice(k * IMAGE, (k + 1) * IMAGE), area = SIDE * SIDE;
  const pixels = new ImageData(SIDE, SIDE);
  for (let p = 0; p < area; p++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * p + c] = (values[c * area + p] + 1) * 127.5;
    pixels.data[4 * p + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, x, y);
  canvas.values = values;
  document.documentElement.dataset.first ??= Math.round(performance.now() - start);
}

export function canvas(label) {
  const made = make("canvas", { width: SIDE, height: SIDE });
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", label);
  return made;
}

// What the course's classifier reads in each image of a batch: [{ hair: "blond", … }, …].
export async function read(networks, tables, images) {
  const { logits } = await networks.classifier({ image: images });
  const attributes = Object.entries(tables.attributes);
  let place = 0;
  return Array.from({ length: images.length / IMAGE }, () => {
    const seen = {};
    for (const [name, values] of attributes) {
      const scores = Array.from(logits.slice(place, place + values.length));
      seen[name] = values[scores.indexOf(Math.max(...scores))];
      place += values.length;
    }
    return seen;
  });
}

// Such a reading in words.
export function words(seen) {
  const mouth = { frown: "a frown", neutral: "a straight mouth", smile: "a smile" }[seen.smile];
  const length = seen.hair_length === "medium" ? "medium-long" : seen.hair_length;
  const turned = seen.pose === "centre" ? "looking ahead" : `turned ${seen.pose}`;
  return `a face with ${length} ${seen.hair} hair, ${seen.skin} skin, ${mouth}, ` +
    `${seen.glasses === "yes" ? "glasses" : "no glasses"}, ${turned}, a ${seen.shirt} shirt`;
}

// Sixteen tokens into the cells of a table; those that differ from `before` are marked.
export function showTokens(table, tokens, before = tokens) {
  table.tBodies[0].replaceChildren(...[0, 4, 8, 12].map((row) => make("tr", {},
    ...tokens.slice(row, row + 4).map((token, i) => make("td",
      { textContent: token, className: token === before[row + i] ? "" : "changed" })))));
}

// A number with one decimal, and no minus before a zero.
export const tenths = (value) => (Math.round(value * 10) / 10 || 0).toFixed(1);

// Every input with an <output for> beside it shows its value; each change calls `then`.
export function follow(ids, then) {
  for (const id of ids) {
    const input = find(id), output = document.querySelector(`output[for=${id}]`);
    const show = () => output && (output.value = Number(input.value).toFixed(decimals(input)));
    show();
    input.addEventListener("input", () => {
      show();
      if (input.checkValidity()) then();
    });
  }
}

const decimals = (input) => (input.step.split(".")[1] ?? "").length;

// The theme chosen on the site's other pages, where it can be read; else the system's.
try {
  const chosen = localStorage.getItem("mode");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // a reader may have forbidden it
}
