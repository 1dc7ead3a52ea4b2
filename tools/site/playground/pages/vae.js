// Chapter 2: the VAE's code by sliders, and attributes added to it.

import { canvas, find, latest, make, open, paint, read, tenths, words } from "./page.js";
import { Generator } from "./random.js";

const SHOWN = 16;                      // units in sight; the others are folded away

open(["vae"], async (networks, tables) => {
  const { faces, arrows, order } = tables.vae, picture = canvas("");
  const size = order.length, amounts = Object.fromEntries(Object.keys(arrows).map((n) => [n, 0]));
  let base = Float32Array.from(faces[0].z);
  find("picture").append(picture);

  // what the amounts add to a unit
  const added = (i) => Object.entries(amounts).reduce((sum, [n, a]) => sum + a * arrows[n][i], 0);
  const code = () => base.map((value, i) => value + added(i));

  function slider(name, label, limit, changed) {
    const input = make("input", { type: "range", id: name, min: -limit, max: limit, step: 0.1 });
    const output = make("output");
    const row = make("div", { className: "slider" },
                     make("label", { htmlFor: name, textContent: label }), input, output);
    input.addEventListener("input", () => changed(Number(input.value)));
    const set = (value) => {
      if (Math.abs(input.value - value) > 0.051) input.value = value;
      input.setAttribute("aria-valuetext", (output.value = tenths(value)));
    };
    return { row, set };
  }

  const sums = Object.keys(arrows).map((name) => {
    const made = slider(name.replace(" ", "-"), `+ ${name}`, 2, (value) => {
      amounts[name] = value;
      show();
    });
    return { name, ...made };
  });
  find("sums").append(...sums.map((s) => s.row));
  const units = order.map((i) => slider(`unit${i + 1}`, `unit ${i + 1}`, 4, (value) => {
    base[i] = value - added(i);
    show();
  }));
  find("units").append(...units.slice(0, SHOWN).map((u) => u.row));
  find("others").append(...units.slice(SHOWN).map((u) => u.row));

  const show = latest(async () => {
    const z = code();
    units.forEach((unit, k) => unit.set(z[order[k]]));
    sums.forEach((sum) => sum.set(amounts[sum.name]));
    const { image } = await networks.vae({ z });
    paint(picture, image);
    const [seen] = await read(networks, tables, image);
    picture.setAttribute("aria-label", `The decoded picture: ${words(seen)}.`);
    find("status").textContent = `The classifier reads ${words(seen)}.`;
  });

  function begin(z) {
    base = Float32Array.from(z);
    for (const name of Object.keys(amounts)) amounts[name] = 0;
    return show();
  }
  const chosen = () => {
    const drawn = find("face").value === "drawn";
    find("seed").disabled = !drawn;
    return drawn ? new Generator(Number(find("seed").value)).normal(size)
                 : faces[find("face").value].z;
  };
  faces.forEach((face, i) => find("face").append(new Option(`${i + 1}: ${face.name}`, i)));
  find("face").append(new Option("none: a code drawn from N(0, I)", "drawn"));
  for (const id of ["face", "seed"]) {
    find(id).addEventListener("input", () => find("seed").checkValidity() && begin(chosen()));
  }
  find("reset").addEventListener("click", () => begin(chosen()));
  await begin(chosen());
});
