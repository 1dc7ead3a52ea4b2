// Excursion x2: eight faces for a sentence, guided away from a negative prompt.
import { sample } from "./diffusion.js";
import { COUNT, gallery } from "./faces.js";
import { find, follow, latest, make, open, words } from "./page.js";
import { Refusal, reader } from "./prompts.js";
import { Generator } from "./random.js";
const told = (seen) => `${words(seen)}, ${seen.eyes} eyes, a ${seen.background} background`;

open(["words", "text_fftd", "ivqvae"], async (networks, tables) => {
  const { vocabulary } = tables.prompts, { tokens, read } = reader(tables.prompts);
  const show = gallery(networks, tables, told), number = (word) => vocabulary.indexOf(word);
  find("vocabulary").textContent = vocabulary.slice(3).join(", ");

  // What `work` makes of a field's sentence; where that is refused, null, and the status says why.
  function understood(id, work) {
    const field = find(id);
    field.removeAttribute("aria-invalid");
    try {
      return work(field.value);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      field.setAttribute("aria-invalid", "true");
      find("status").textContent = `${field.labels[0].textContent} refused: ${error.message}`;
      return null;
    }
  }
  const listed = (sentence) => sentence.filter(number).map((word) => make("li", {},
    `${word} `, make("small", { textContent: number(word) })));
  const draw = latest(async () => {
    const prompt = find("prompt").value, scale = Number(find("scale").value);
    const negative = understood("negative", (n) => tokens(n, scale));
    const asked = understood("prompt", (p) => (p === "" ? {} : read(p)));
    if (!(asked && negative)) return;
    const sentence = tokens(prompt), things = Object.entries(asked);
    const ids = [...sentence, ...negative].map(number), { words } = await networks.words({ ids });
    const denoiser = (inputs) => networks.text_fftd({ ...inputs, words, ids });
    const options = { count: COUNT, steps: Number(find("steps").value), label: 0, none: 1,
                      scale, order: 2 };
    const random = new Generator(Number(find("seed").value));
    const seen = await show(sample(denoiser, tables.alpha_bar, random, options), draw.stale);
    if (!seen) return;
    find("sentence-words").replaceChildren(...listed(sentence));
    find("negative-words").replaceChildren(...listed(negative));
    const count = (right) => `${seen.filter(right).length} of ${COUNT}`;
    find("told").tBodies[0].replaceChildren(...things.map(([name, value]) => make("tr", {},
      make("th", { scope: "row", textContent: name.replace("_", " ") }),
      ...[value, count((face) => face[name] === value)].map((text) => make("td", {}, text)))));
    const obeyed = count((face) => things.every(([name, value]) => face[name] === value));
    find("status").textContent = things.length
      ? `All that the sentence says is in ${obeyed} faces, as the classifier reads them.`
      : "Eight faces of which the sentence says nothing.";
  });
  find("asking").addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  follow(["scale", "steps", "seed"], draw);
  await draw();
});
