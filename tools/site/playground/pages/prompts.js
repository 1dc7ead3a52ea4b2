// Sentences, read as minigen.prompts reads them (excursion x2): its tables come in tables.json, its
// rules stand here once more, with the same sentences for what is refused.

const LIST = "the list below";         // of all words; Python's sentences name its VOCABULARY

export class Refusal extends Error {}

function refuse(when, sentence) {
  if (when) throw new Refusal(sentence);
}

// How many letters two words share, as Python's difflib counts them: those of the longest piece
// that is in both, and those shared before it and behind it.
function shared(a, b) {
  for (let n = a.length; n > 0; n--) {
    for (let i = 0; i + n <= a.length; i++) {
      const k = b.indexOf(a.slice(i, i + n));
      if (k < 0) continue;
      return n + shared(a.slice(0, i), b.slice(0, k)) + shared(a.slice(i + n), b.slice(k + n));
    }
  }
  return 0;
}

// What to say of the known word that is most like another one: of equals the last.
function near(word, all) {
  const like = (w) => (2 * shared(w, word)) / (w.length + [...word].length);
  const best = all.reduce((best, w) => (like(w) >= like(best) ? w : best));
  return like(best) >= 0.6 ? `: did you mean '${best}'?` : `; the words that are: ${LIST}`;
}

// Python's tables as two functions: tokens(sentence) gives its words and padding, as many as the
// longest sentence has, read(sentence) what it says: { hair: "red", … }. Both throw a Refusal.
export function reader({ vocabulary, longest, denials, meant, told_by, meaning, by_itself }) {
  const [pad, start, end, ...all] = vocabulary;
  const describing = new Set(Object.values(meaning).flatMap(Object.keys));
  const listed = (all) => `${all.slice(0, -1).join(", ")} or ${all.at(-1)}`;

  function words(prompt) {
    const found = prompt.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
    const strange = found.filter((w) => !all.includes(w)), [w] = strange;
    refuse(!found.length, "the prompt is empty: say what the face is like, such as 'a person " +
           "with red hair'");
    refuse(strange.length > Math.max(1, found.length / 2), `most words of '${
      [...prompt].slice(0, 60).join("")}' are not known, '${w}' among them: prompts are in ` +
      `English, of ${all.length} words (${LIST})`);
    refuse(denials.includes(w), `'${w}' is not known: no caption denies anything. What shall ` +
           "not be there goes into the negative prompt");
    if (w) refuse(true, `'${w}' is not known${
      Object.hasOwn(meant, w) ? `: did you mean '${meant[w]}'?` : near(w, all)}`);
    refuse(found.length > longest - 2, `the prompt has ${found.length} words, and at most ` +
           `${longest - 2} can be read: leave some out`);
    return found;
  }

  // The empty sentence is the null caption, of which nothing is known. scale: of a negative one.
  function tokens(prompt, scale = 2) {
    refuse(prompt !== "" && scale <= 1, "a negative prompt works by guidance: the scale must be " +
           `above 1 with it; got ${scale}`);
    const said = [start, ...(prompt === "" ? [] : words(prompt)), end];
    return [...said, ...Array(longest - said.length).fill(pad)];
  }

  function read(prompt) {
    const said = words(prompt), told = {}, used = new Set();
    function tell(name, value) {
      refuse((told[name] ??= value) !== value, `the prompt contradicts itself: ${
        name.replace("_", " ")} both ${told[name]} and ${value}. Leave one out`);
    }
    said.forEach((noun, k) => {
      if (noun in by_itself) tell(...by_itself[noun]);
      if (!(noun in told_by)) return;
      const places = [];               // of the words right before the noun
      for (let i = k - 1; describing.has(said[i]) && !used.has(i); i--) places.push(i);
      if (["is", "are"].includes(said[k + 1]) && k + 2 < said.length) places.push(k + 2);
      for (const i of places) {
        const owners = told_by[noun].filter((name) => said[i] in meaning[name]);
        for (const name of owners) tell(name, meaning[name][said[i]]);
        const can = told_by[noun].map((name) => listed(Object.keys(meaning[name])));
        refuse(!owners.length, `the ${noun} of a ToyFace cannot be '${said[i]}': it can be ${
          can.join("; its length ")}`);
        used.add(i);
      }
    });
    const lost = said.find((w, k) => describing.has(w) && !used.has(k));
    const owner = Object.keys(meaning).find((name) => lost in meaning[name]);
    refuse(lost, `'${lost}' belongs to nothing: say of what, such as '${lost} ${
      owner === "hair_length" ? "hair" : owner}'`);
    return told;
  }

  return { tokens, read };
}
