// Chapter 6: the film of one face out of noise, by its number of steps, η and seed.

import { sample } from "./diffusion.js";
import { SIDE, breathe, canvas, find, follow, latest, open, paint, read, showTokens, words }
  from "./page.js";
import { Generator } from "./random.js";

const FRAMES = 8, GAP = 1;             // pictures of the strip, and pixels between them

open(["fftd", "ivqvae"], async (networks, tables) => {
  const noisy = canvas(""), guess = canvas(""), strip = find("strip");
  find("noisy").append(noisy);
  find("guess").append(guess);
  strip.width = FRAMES * (SIDE + GAP) - GAP;
  strip.height = 2 * SIDE + GAP;
  let film = [], playing = null;

  // state k of the film decoded: [what is there, the guess of the end]
  async function decoded(k) {
    const { x, x0 } = film[k], both = new Float32Array(128);
    both.set(x);
    both.set(x0 ?? x, 64);
    return networks.ivqvae({ z: both });
  }

  const look = latest(async () => {
    const k = Math.min(Number(find("frame").value), film.length - 1);
    const { image, tokens } = await decoded(k);
    const before = k > 0 ? (await decoded(k - 1)).tokens.slice(16) : tokens.slice(16);
    paint(noisy, image, 0);
    if (k) paint(guess, image, 1);
    else guess.getContext("2d").clearRect(0, 0, SIDE, SIDE);
    if (k) showTokens(find("tokens"), tokens.slice(16), before);
    else showTokens(find("tokens"), Array(16).fill("–"));
    const [, seen] = await read(networks, tables, image);
    const steps = film.length - 1, time = k ? film[k].t : "noise alone";
    const moved = tokens.slice(16).filter((token, i) => token !== before[i]).length;
    find("frame-said").value = `${k} of ${steps}`;
    find("frame").setAttribute("aria-valuetext", `${k} of ${steps}`);
    noisy.setAttribute("aria-label", `What the latents of step ${k} decode to.`);
    guess.setAttribute("aria-label", k ? `The guess at step ${k}: ${words(seen)}.`
                                       : "No guess yet: the noise.");
    if (playing) return;               // nobody wants every frame read aloud
    find("status").textContent = k
      ? `Step ${k} of ${steps}, t = ${time}: ${moved} tokens of the guess changed. ` +
        `The classifier reads ${words(seen)}.`
      : `Before the first of ${steps} steps: noise alone.`;
  });

  const draw = latest(async () => {
    const steps = Number(find("steps").value), eta = Number(find("eta").value);
    const random = new Generator(Number(find("seed").value)), states = [];
    find("status").textContent = "Sampling.";
    for await (const state of sample(networks.fftd, tables.alpha_bar, random, { steps, eta })) {
      states.push(state);
      if (states.length % 5 === 0) await breathe();
      if (draw.stale()) return;
    }
    film = states;
    find("frame").max = steps;
    find("frame").value = steps;
    await look();
    const shown = Math.min(FRAMES, steps + 1), context = strip.getContext("2d");
    context.clearRect(0, 0, strip.width, strip.height);
    for (let i = 0; i < shown; i++) {
      const k = Math.round((i * steps) / Math.max(1, shown - 1)), { image } = await decoded(k);
      paint(strip, image, 0, i * (SIDE + GAP), 0);
      if (k) paint(strip, image, 1, i * (SIDE + GAP), SIDE + GAP);
    }
  });

  const stop = () => {
    clearInterval(playing);
    playing = null;
    find("play").textContent = "Play the film";
    return look();
  };
  find("play").addEventListener("click", () => {
    if (playing) return stop();
    find("frame").value = 0;
    find("play").textContent = "Stop";
    playing = setInterval(async () => {
      await look();
      if (find("frame").value === find("frame").max) stop();
      else find("frame").stepUp();
    }, 200);
  });
  find("frame").addEventListener("input", look);
  follow(["steps", "eta", "seed"], () => {
    if (playing) stop();
    draw();
  });
  await draw();
});
