// Chapter 7: eight faces with a hair colour asked for, and how strongly.

import { NONE, sample } from "./diffusion.js";
import { breathe, canvas, find, follow, latest, make, open, paint, read, showTokens, words }
  from "./page.js";
import { Generator } from "./random.js";

const COUNT = 8;

open(["fftd", "ivqvae"], async (networks, tables) => {
  const colours = tables.attributes.hair, big = canvas("");
  let drawn = null, chosen = 0;
  find("picture").append(big);
  colours.forEach((colour, i) => find("hair").append(new Option(colour, i)));
  find("hair").append(new Option("any", NONE));
  find("hair").value = 2;

  const faces = Array.from({ length: COUNT }, (_, i) => {
    const small = canvas("");
    small.setAttribute("aria-hidden", "true");
    return { small, button: make("button", { type: "button", onclick: () => {
      chosen = i;
      look();
    } }, small) };
  });
  find("faces").append(...faces.map((f) => f.button));

  function look() {
    const { image, tokens, seen } = drawn;
    faces.forEach(({ small, button }, i) => {
      paint(small, image, i);
      button.setAttribute("aria-pressed", i === chosen);
      button.setAttribute("aria-label", `face ${i + 1}: ${words(seen[i])}`);
    });
    paint(big, image, chosen);
    big.setAttribute("aria-label", `Face ${chosen + 1}: ${words(seen[chosen])}.`);
    find("which").textContent = chosen + 1;
    showTokens(find("tokens"), tokens.slice(16 * chosen, 16 * (chosen + 1)));
  }

  const draw = latest(async () => {
    const hair = Number(find("hair").value), scale = Number(find("scale").value);
    const options = { count: COUNT, steps: Number(find("steps").value), hair, scale };
    const random = new Generator(Number(find("seed").value));
    find("scale").disabled = hair === NONE;
    let last, done = 0;
    find("status").textContent = "Sampling.";
    for await (last of sample(networks.fftd, tables.alpha_bar, random, options)) {
      if (done++ % 3 === 0) {
        await breathe();
        if (draw.stale()) return;
      }
    }
    drawn = await networks.ivqvae({ z: last.x });
    drawn.seen = await read(networks, tables, drawn.image);
    look();
    const obeyed = drawn.seen.filter((seen) => seen.hair === colours[hair]).length;
    find("status").textContent = hair === NONE ? "Eight faces, no hair colour asked for."
      : `The classifier reads ${colours[hair]} hair in ${obeyed} of ${COUNT} faces.`;
  });

  follow(["hair", "scale", "steps", "seed"], draw);
  await draw();
});
