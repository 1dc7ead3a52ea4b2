"""The chapters' lists of words as one glossary, each word linked with where it is explained."""

import html
import re
from typing import NamedTuple

import course
import links

# Where a word is explained in other words than its own: chapter, word, what stands there.
PHRASES = {
    "00": {"generative model": "**generate**", "mean": "its own mean",
           "Cholesky factor": "a triangular one", "feature": "a feature vector"},
    "01": {"minimax game": "Two networks play", "non-saturating loss": "**non-saturating**",
           "hinge loss": "A third loss", "latent space": "two noise vectors",
           "conditional": "**conditional GAN**"},
    "02": {"latent variable": "**latent**", "reparameterisation": "**Reparameterisation.**",
           "active unit": "**active**"},
    "03": {"codebook": "put the codebook", "commitment loss": "it is the commitment",
           "receptive field": "every earlier place at once"},
    "04": {"upsampling": "**nearest-neighbour upsampling**", "downsampling": "halves the map",
           "perceptual loss": "**features**", "patch discriminator": "**patch**",
           "compression factor f": "The compression", "ablation": "After this short training"},
    "05": {"ε-prediction": "predicting the noise", "v-prediction": "safe at both ends",
           "Langevin dynamics": "**Langevin's dynamics**",
           "running average (EMA)": "a slow average of the weights"},
    "06": {"non-Markovian": "Suppose that, knowing",
           "deterministic sampling": "**function of the noise**",
           "spacing": "Three ways are common", "probability flow": "**the probability flow**",
           "order of a method": "**second order**", "spherical interpolation": "**arc**",
           "composition": "each adds its own", "inpainting": "A mask says"},
    "07": {"latent diffusion": "with the latents in place of images",
           "token": "each becomes one token", "multi-head attention": "**heads**",
           "positional embedding": "**position**", "adaptive layer norm": "**adaptive norm**",
           "multi-resolution": "The five blocks form", "spatial weight": "**place**",
           "ablation": "only the ablation"},
    "08": {"checkpoint": "A checkpoint must be", "resume": "To go on",
           "atomic write": "only then renamed", "distributed data parallel": "each process takes",
           "gradient accumulation": "cut into parts", "memorisation": "those who copy them"},
    "x1": {"change of variables": "probability is only carried along",
           "coupling layer": "Split the numbers", "dequantisation": "**dequantised**",
           "temperature": "drawn with less spread"},
}
# no link is put into code, formulas, links, tags, summaries or headings
CLOSED = re.compile(r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|!?\[[^\]\n]*\]\([^)\n]*\)"
                    r"|<a .*?</a>|<summary>.*?</summary>|<[^>\n]*>|^#+ [^\n]*$", re.S | re.M)


class Word(NamedTuple):
    """One word of a chapter's list; anchor: what its places are called, term-… and word-…."""

    english: str
    chinese: str
    meaning: str
    stem: str
    anchor: str


def words_of(stem: str, cells: list[str]) -> list[Word]:
    """The list of words of a chapter, "prior, posterior" as two."""
    last = "\n".join(cells[_table(cells) :])
    table = last.partition("### Words")[2].partition("### References")[0]
    found = []
    for row in re.findall(r"^\| (.+) \| (.+?) \| (.+) \|$", table, re.M)[1:]:
        english, chinese = (cell.split(", ") for cell in row[:2])
        if len(english) != len(chinese):
            english, chinese = [row[0]], [row[1]]
        for e, c in zip(english, chinese, strict=True):
            slug = re.sub(r"[^a-z0-9εv]+", "-", e.lower()).strip("-")
            found.append(Word(e, c, row[2], stem, f"{course.number(stem)}-{slug}"))
    return found


def _table(cells: list[str]) -> int:
    """The number of the cell with the list of words; behind the last where there is none."""
    return next((k for k, cell in enumerate(cells) if "### Words" in cell), len(cells))


def marked(stem: str, cells: list[str]) -> list[str]:
    """A chapter's prose with each word a link where it is explained, and in its list.

    A word is explained where it stands in bold, or where PHRASES says, else where it is first
    used; a word that is used nowhere is explained in the list itself.
    """
    cells, table = list(cells), _table(cells)
    for word in words_of(stem, cells):
        k, start, end = _explained(word, cells[:table]) or (table, 0, 0)
        if k < table:
            text = cells[k]
            link = _link(word, text[start:end], f"word-{word.anchor}")
            cells[k] = text[:start] + link + text[end:]
        name = "" if k < table else f"word-{word.anchor}"
        row = rf"(?m)^(\| (?:[^|\n]*, )?){re.escape(word.english)}(?=,? ?[^|\n]*\|)"
        link = _link(word, word.english, name)
        cells[table] = re.sub(row, rf"\g<1>{link}", cells[table], count=1)
    return cells


def _link(word: Word, text: str, name: str) -> str:
    name = f' id="{name}"' if name else ""
    return f'<a class="word"{name} href="../glossary.html#term-{word.anchor}">{text}</a>'


def _explained(word: Word, cells: list[str]) -> tuple[int, int, int] | None:
    """(cell, start, end) of the place where a word is explained."""
    bare = re.sub(r" \(.*\)", "", word.english)
    stem = spaced(bare)
    wanted = [rf"\*\*{stem}s?\*\*", rf"(?<![\w-]){stem}(?!\w*[`(])s?"]
    if phrase := PHRASES.get(word.stem.split("_")[0], {}).get(word.english):
        wanted.insert(0, spaced(phrase))
    order = [*range(1, len(cells)), 0]             # the head only announces
    for pattern in wanted:
        for k in order:
            closed = [m.span() for m in CLOSED.finditer(cells[k])]
            for m in re.finditer(pattern, cells[k], re.I):
                if not any(a < m.end() and m.start() < b for a, b in closed):
                    return k, *m.span()
    return None


def spaced(phrase: str) -> str:
    """What finds a phrase, wherever its lines are broken."""
    return r"\s+".join(re.escape(word) for word in phrase.split())


def pinyin(chinese: str) -> bytes:
    """What sorts the common characters by their sound: GB 2312 lists them so."""
    return chinese.encode("gb18030")


def page(words: list[Word]) -> str:
    """The glossary: by the English word, and by the Chinese."""
    first = sorted(words, key=lambda w: (w.english.casefold(), w.anchor))
    second = sorted(words, key=lambda w: (pinyin(w.chinese), w.english.casefold(), w.anchor))
    lines = [
        "# Glossary", "",
        f"{len(words)} words, as the chapters use them; each leads to the place where it is "
        "explained, and from there back. The second list is sorted by the Chinese word.", "",
        "| English, 中文 | meaning here |", "|---|---|"]
    for w in first:
        name = f'<span id="term-{w.anchor}">{html.escape(w.english)}</span>'
        lines.append(f"| {name}<br>{_chinese(w)} | {w.meaning}<br>{_place(w)} |")
    lines += ["", "## 中文", "", "| 中文 | English |", "|---|---|"]
    for w in second:
        english = f'<a href="#term-{w.anchor}">{html.escape(w.english)}</a>'
        lines.append(f"| {_chinese(w)} | {english} |")
    return "\n".join(lines) + "\n"


def _chinese(word: Word) -> str:
    return f'<span lang="zh">{html.escape(word.chinese)}</span>'


def _place(word: Word) -> str:
    title = course.everything()[word.stem].title
    where = links.place_of(f"notebooks/{word.stem}.ipynb").replace(".ipynb", ".html")
    kind = "excursion" if word.stem in course.EXCURSIONS else "chapter"
    return (f'<a href="{where}#word-{word.anchor}">{kind} {course.number(word.stem)}, '
            f"{html.escape(title)}</a>")
