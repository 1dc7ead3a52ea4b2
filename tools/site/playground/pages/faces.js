// Eight faces to choose from, and the chosen one large beside its sixteen tokens.

import { breathe, canvas, find, make, paint, read, showTokens, words } from "./page.js";

export const COUNT = 8;

// An empty gallery; told(seen) puts a face into words. Its show(sampling, stale) runs a sampler to
// the end and answers with what the classifier reads in each face, or null once it is stale.
export function gallery(networks, tables, told = words) {
  const big = canvas("");
  let drawn = null, chosen = 0;
  const buttons = Array.from({ length: COUNT }, (_, i) => make("button", { type: "button",
    onclick: () => {
      chosen = i;
      look();
    } }, Object.assign(canvas(""), { ariaHidden: "true" })));
  find("faces").append(...buttons);
  find("picture").append(big);

  function look() {
    const { image, tokens, seen } = drawn, here = told(seen[chosen]);
    buttons.forEach((button, i) => {
      paint(button.firstChild, image, i);
      button.setAttribute("aria-pressed", i === chosen);
      button.setAttribute("aria-label", `face ${i + 1}: ${told(seen[i])}`);
    });
    paint(big, image, chosen);
    big.setAttribute("aria-label", `Face ${chosen + 1}: ${here}.`);
    find("seen").textContent = `The classifier reads ${here}.`;
    find("which").textContent = chosen + 1;
    showTokens(find("tokens"), tokens.slice(16 * chosen, 16 * (chosen + 1)));
  }

  return async (sampling, stale) => {
    let last, done = 0;
    find("status").textContent = "Sampling.";
    for await (last of sampling) {
      if (done++ % 3 === 0) await breathe();
      if (stale()) return null;
    }
    drawn = await networks.ivqvae({ z: last.x });
    drawn.seen = await read(networks, tables, drawn.image);
    look();
    return drawn.seen;
  };
}
