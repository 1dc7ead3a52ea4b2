// Chapter 7: eight faces with a hair colour asked for, and how strongly.

import { NONE, sample } from "./diffusion.js";
import { COUNT, gallery } from "./faces.js";
import { find, follow, latest, open } from "./page.js";
import { Generator } from "./random.js";

open(["fftd", "ivqvae"], async (networks, tables) => {
  const colours = tables.attributes.hair, show = gallery(networks, tables);
  find("hair").append(...colours.map((c, i) => new Option(c, i)), new Option("any", NONE));
  find("hair").value = 2;

  const draw = latest(async () => {
    const label = Number(find("hair").value), scale = Number(find("scale").value);
    const options = { count: COUNT, steps: Number(find("steps").value), label, scale };
    const random = new Generator(Number(find("seed").value));
    find("scale").disabled = label === NONE;
    const seen = await show(sample(networks.fftd, tables.alpha_bar, random, options), draw.stale);
    if (!seen) return;
    const obeyed = seen.filter((face) => face.hair === colours[label]).length;
    find("status").textContent = label === NONE ? "Eight faces, no hair colour asked for."
      : `The classifier reads ${colours[label]} hair in ${obeyed} of ${COUNT} faces.`;
  });

  follow(["hair", "scale", "steps", "seed"], draw);
  await draw();
});
