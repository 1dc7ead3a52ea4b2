"""The page for teachers: what a chapter needs and gives, two syllabuses, grading."""

import re

import chapters
import course
import links

# what a chapter builds on, and the mathematics it uses; an excursion says so in tools/course.py
NEEDS = {
    "00_start_here": "Python; mean, matrix product, eigenvectors met before",
    "01_gan": "chapter 0; derivative, logarithm, what a gradient step is",
    "02_vae": "chapter 0; densities, expectation, the chain rule",
    "03_vqvae": "chapter 2; nearest neighbours, logarithms to the base 2",
    "04_ivqvae": "chapters 1 and 3; convolution, softmax",
    "05_ddpm": "chapter 2; Bayes' rule for Gaussians",
    "06_ddim": "chapter 5; differential equations by name",
    "07_fftd": "chapters 4 and 6; attention from chapter 4",
    "08_celebahq": "chapters 4 and 7; a command line; a GPU for its full size only",
}
# (week, stem or None, what of it)
EIGHT = (
    (1, "00_start_here", "all"), (2, "01_gan", "all"), (3, "02_vae", "all"), (4, "03_vqvae", "all"),
    (5, "04_ivqvae", "all"), (6, "05_ddpm", "all but §10"), (7, "06_ddim", "§1 to §6"),
    (8, "07_fftd", "all; of chapter 8 §7 to §9 as reading"),
)
PROJECT = ("an excursion, or a project of the students' own: another data set through `prepare`, "
           "and one model measured on it")
FOURTEEN = (
    (1, "00_start_here", "all"), (2, "01_gan", "§1 to §3"), (3, "01_gan", "§4 to §7"),
    (4, "02_vae", "§1 to §4"), (5, "02_vae", "§5 to §8"), (6, "03_vqvae", "all"),
    (7, "04_ivqvae", "all"), (8, "05_ddpm", "§1 to §6"), (9, "05_ddpm", "§7 to §11"),
    (10, "06_ddim", "all"), (11, "07_fftd", "§1 to §5"), (12, "07_fftd", "§6 to §9"),
    (13, "08_celebahq", "all"), (14, None, PROJECT),
)


def page(stems: list[str]) -> str:
    """The page; everything that can be counted is counted."""
    text = links.read("README.md")
    grading = links.relinked(links.section(text, "I teach"), "README.md", "teachers.md")
    hours = course.hours()
    return "\n".join([
        "# For teachers", "",
        f"The {len(course.CHAPTERS)} chapters take about {hours} hours with all exercises. They "
        "need no GPU and no network, send nothing anywhere, and run in two minutes or less each, "
        "so a class can begin in its first hour. Solutions are on [pages of their "
        "own](solutions/index.md); whoever hands in somebody's code can explain it or cannot, "
        "so ask.", "",
        "## What each chapter needs and gives", "", *_chapters(stems), "",
        "## Eight weeks", "",
        "A chapter a week; chapter 8 is read, not run. The minutes are a learner's, exercises "
        "included.", "", *_weeks(EIGHT),
        "", "## Fourteen weeks", "", "Slower, with time for a project.", "",
        *_weeks(FOURTEEN),
        "", "## Handing in and grading", "", grading])


def _chapters(stems: list[str]) -> list[str]:
    lines = ["| chapter | needs | gives |", "|---|---|---|"]
    for stem in stems:
        c, tasks = course.everything()[stem], chapters.exercises(stem)
        stars = sum(count for _, count in tasks)
        size = f"{len(tasks)} exercises, {stars} stars, {c.read} minutes"
        lines.append(f"| {_link(stem)}<br>{size} | {NEEDS.get(stem, c.after)} | {c.about} |")
    return lines


def _weeks(weeks: tuple) -> list[str]:
    lines = ["| week | chapter | of it | minutes | exercises |", "|---|---|---|---|---|"]
    for week, stem, part in weeks:
        if stem is None:
            lines.append(f"| {week} | – | {part} | – | – |")
            continue
        taken = within(stem, part)
        whole = course.everything()[stem].read
        minutes = whole if part == "all" else min(whole, sum(s.minutes for s in taken))
        names = ", ".join(f"`{name}`" for s in taken for name in s.exercises)
        lines.append(f"| {week} | {_link(stem)} | {part} | {minutes} | {names} |")
    return lines


def within(stem: str, part: str) -> list[chapters.Section]:
    """The sections of a chapter that "§1 to §3", "all but §10" or "all" means."""
    span = re.match(r"§(\d+) to §(\d+)", part)
    left_out = re.match(r"all but §(\d+)", part)
    first, last = map(int, span.groups()) if span else (0, 99)
    out = int(left_out[1]) if left_out else None
    return [s for s in chapters.sections(stem) if first <= s.number <= last and s.number != out]


def _link(stem: str) -> str:
    kind = "excursion " if stem in course.EXCURSIONS else ""
    return (f"[{kind}{course.number(stem)}, {course.everything()[stem].title}]"
            f"({links.place_of(f'notebooks/{stem}.ipynb')})")
