// Chapter 3: a face's sixteen tokens. Take another code at a place, or a row of another face.

import { IMAGE, canvas, find, latest, make, open, paint, read, words } from "./page.js";

open(["vqvae"], async (networks, tables) => {
  const { faces, common, codes } = tables.vqvae, picture = canvas(""), other = canvas("");
  let tokens = [...faces[0].tokens], place = 5;
  find("picture").prepend(picture);
  find("other-picture").append(other);

  const name = (i) => `row ${Math.floor(i / 4) + 1}, column ${(i % 4) + 1}`;
  const buttons = tokens.map((_, i) => make("button", { type: "button", onclick: () => {
    place = i;
    show();
  } }));
  find("map").append(...buttons);
  find("map").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -4, ArrowDown: 4 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = buttons.indexOf(document.activeElement) + step;
    buttons[next]?.focus();
  });

  const choices = common[0].map(() => {
    const small = canvas(""), label = make("span");
    small.setAttribute("aria-hidden", "true");
    return { small, label, button: make("button", { type: "button" }, small, label) };
  });
  find("choices").append(...choices.map((c) => c.button));
  const put = (token) => {
    tokens[place] = token;
    show();
  };
  for (const { label, button } of choices) {
    button.addEventListener("click", () => put(Number(label.textContent)));
  }
  find("code").max = codes - 1;
  find("code").addEventListener("input", () => {
    if (find("code").checkValidity() && find("code").value) put(Number(find("code").value));
  });

  const show = latest(async () => {
    const here = [...tokens], at = place;
    const tried = common[at].map((code) => here.map((token, i) => (i === at ? code : token)));
    const second = faces[find("other").value].tokens;
    const { image } = await networks.vqvae({ tokens: [here, second, ...tried].flat() });
    paint(picture, image, 0);
    paint(other, image, 1);
    choices.forEach(({ small, label, button }, k) => {
      const code = common[at][k];
      paint(small, image, k + 2);
      label.textContent = code;
      button.setAttribute("aria-label", `code ${code} at ${name(at)}`);
      button.setAttribute("aria-pressed", code === here[at]);
    });
    buttons.forEach((button, i) => {
      button.textContent = here[i];
      button.setAttribute("aria-label", `${name(i)}: code ${here[i]}`);
      button.setAttribute("aria-pressed", i === at);
    });
    find("code").value = here[at];
    find("where").textContent = name(at);
    const [seen, another] = await read(networks, tables, image.slice(0, 2 * IMAGE));
    picture.setAttribute("aria-label", `The decoded picture: ${words(seen)}.`);
    other.setAttribute("aria-label", `The other face: ${words(another)}.`);
    const first = faces[find("face").value].tokens;
    const changed = here.filter((token, i) => token !== first[i]).length;
    find("status").textContent =
      `${changed} of 16 tokens changed. The classifier reads ${words(seen)}.`;
  });

  for (const id of ["face", "other"]) {
    faces.forEach((face, i) => find(id).append(new Option(`${i + 1}: ${face.name}`, i)));
  }
  find("other").value = 1;
  find("other").addEventListener("input", show);
  const back = () => {
    tokens = [...faces[find("face").value].tokens];
    return show();
  };
  find("face").addEventListener("input", back);
  find("reset").addEventListener("click", back);
  for (let row = 0; row < 4; row++) {
    find("rows").append(make("button", { type: "button", textContent: `row ${row + 1}`,
      onclick: () => {
        const second = faces[find("other").value].tokens;
        tokens = tokens.map((token, i) => (Math.floor(i / 4) === row ? second[i] : token));
        show();
      } }));
  }
  await back();
});
