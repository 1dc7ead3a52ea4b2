"""Which class and split each file of a source belongs to.

They come from the folders it lies in, or from a file of labels.
"""

import csv
import io
import itertools
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from minigen.errors import DataError

SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing", "eval")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm",
            ".avif", ".heic", ".heif", ".jp2")
MOST = 10**8  # bytes of a list of labels
Labels = dict[str, str]  # the class of each file by its name
Folders = dict[str, tuple[str, ...]]  # the folders above each file by its name


class Entry(NamedTuple):
    """A file of a source: its name there, its class and split, and why it is left out.

    None stands for no class, for no split, and for a file that is not left out.
    """

    name: str
    label: str | None = None
    split: str | None = None
    problem: str | None = None


def is_hidden(name: str) -> bool:
    """Whether a file or a folder above it is of the kind that systems leave behind.

    Such as ".DS_Store" and "__MACOSX".
    """
    return any(p.startswith(".") or p == "__MACOSX" for p in PurePosixPath(name).parts)


def is_image(name: str) -> bool:
    """Whether a file's name says that it is an image."""
    return name.lower().endswith(SUFFIXES)


def _without_tops(names: list[str], folders: Folders) -> tuple[list[str], Folders]:
    """(the images among `names`, folders less the one that most zips have at their top)"""
    images = [n for n in names if is_image(n)] or names  # a README beside them decides nothing
    while images:
        first = folders[images[0]]
        alike = all(len(folders[n]) > 1 and folders[n][0] == first[0] for n in images)
        if not alike or first[0].lower() in SPLITS:
            break
        folders = {n: f[1:] if f[:1] == first[:1] else f for n, f in folders.items()}
    return images, folders


def arrange(
    path: Path,
    names: list[str],
    empty: list[str],
    use_classes: bool | str = True,
    labels: Labels | None = None,
    split: str | None = None,
) -> tuple[list[Entry], list[str]]:
    """The entries of `names` and the sentences that tell what their folders were taken for.

    A level train/val/test is the split. Below it the first folders are the classes, unless they
    only cut a large set into pieces (00000, 00001, … or 00000, 01000, … of equally many files) or
    there is one for all. Names are relative, with "/".

    empty: folders that hold nothing. use_classes: True; False for none; "folders" to take every
    first folder as a class. labels: {name: class} from a file; then the folders mean nothing.
    split: only this one is looked at.

    Returns: (entries, notes).
    Raises: DataError where classes and splits, or images and class folders, lie side by side, and
        for an empty class.
    """
    folders = {n: PurePosixPath(n).parts[:-1] for n in names}
    images, folders = _without_tops(names, folders)
    tops = {folders[n][0] for n in images if folders[n]}
    split_tops = {t for t in tops if t.lower() in SPLITS}
    if use_classes == "folders" and split_tops != tops:
        split_tops = set()  # asked for: each folder is a class, whatever its name
    if use_classes and labels is None and split_tops and split_tops != tops:
        beside = f"'{min(split_tops)}' beside the folder '{min(tops - split_tops)}'"
        raise DataError(f"'{path}' has the split folder {beside}, so classes and splits can't be "
                        "told apart: move one, or pass --classes none.")
    split_of = {n: f[0].lower() if f and f[0] in split_tops else None for n, f in folders.items()}
    below = {n: f[1:] if split_of[n] else f for n, f in folders.items()}
    if split is not None and split in split_of.values():
        names = [n for n in names if split_of[n] == split]
        empty = [d for d in empty if split in map(str.lower, PurePosixPath(d).parts)]
        below = {n: below[n] for n in names}
    if labels is not None:
        return _labelled(path, names, split_of, labels)
    if not use_classes:
        return [Entry(n, None, split_of[n]) for n in names], []
    if empty:
        raise DataError(f"The class folder '{empty[0]}' in '{path}' holds no image: fill it, "
                        "remove it, or pass --classes none.")
    first = {n: f[0] if f else None for n, f in below.items()}
    kinds = {k for k in first.values() if k is not None}
    if not kinds:
        return [Entry(n, None, split_of[n]) for n in names], []
    if use_classes != "folders":
        if all(first.values()) and len(kinds) == 1 and not split_tops:
            note = (f"All files lie in the one folder '{kinds.pop()}', which is taken as no class "
                    "(--classes folders: as one).")
            return [Entry(n) for n in names], [note]
        if _are_pieces(list(first.values())):
            note = (f"The folders {min(kinds)} to {max(kinds)} are taken as pieces of one set, not "
                    "as classes (--classes folders: as classes).")
            return [Entry(n, None, split_of[n]) for n in names], [note]
    _require_images(path, names, first, kinds)
    note = "The folders are taken as classes (--classes none: not)."
    return [Entry(n, first[n], split_of[n]) for n in names], [note]


def _require_images(
    path: Path, names: list[str], first: dict[str, str | None], kinds: set[str]
) -> None:
    """Raise DataError for images beside the class folders, and for a class folder without any."""
    loose = [n for n in names if first[n] is None and is_image(n)]
    if loose:
        raise DataError(f"'{path}' has images in class folders and others beside them (such as "
                        f"'{loose[0]}'): move those, or pass --classes none to ignore the folders.")
    for kind in sorted(kinds):
        inside = [n for n in names if first[n] == kind]
        if all(PurePosixPath(n).suffix and not is_image(n) for n in inside):
            raise DataError(f"The folder '{kind}' in '{path}' would be a class but holds no image "
                            f"(but '{inside[0]}'): move it away, or pass --classes none to ignore "
                            "the folders.")


def _are_pieces(folders: list[str | None]) -> bool:
    """Whether folder names only number the pieces of one set.

    They are 0-padded, evenly spaced, and equally full but for the last.
    """
    counts = {k: folders.count(k) for k in sorted({f for f in folders if f is not None})}
    names = list(counts)
    if len(names) < 2 or not all(n.isascii() and n.isdigit() for n in names):
        return False
    if {len(n) for n in names} != {len(names[0])} or len(names[0]) < 3 or names[0][0] != "0":
        return False
    steps = {int(b) - int(a) for a, b in itertools.pairwise(names)}
    full = set(list(counts.values())[:-1])
    return len(steps) == 1 and int(names[0]) % steps.pop() == 0 and len(full) == 1


def _labelled(
    path: Path, names: list[str], split_of: dict[str, str | None], labels: Labels
) -> tuple[list[Entry], list[str]]:
    found: dict[str, str | None] = {}
    used: dict[str | None, list[str]] = {}
    for n in names:  # a list may name files from some folder on: a/b/1.png as b/1.png
        parts = PurePosixPath(n).parts
        endings = ("/".join(parts[k:]) for k in range(len(parts)))
        row = next((ending for ending in endings if ending in labels), None)
        found[n] = None if row is None else labels[row]
        used.setdefault(row, []).append(n)
    if not any(found.values()):
        raise DataError(f"None of the files of '{path}' stands in the list of labels; such as "
                        f"'{names[0]}' does not, and the list has such as "
                        f"'{next(iter(labels), '')}'.")
    shared = {n for row, those in used.items() if row is not None and len(those) > 1 for n in those}
    entries = []
    for n in names:
        problem = None if found[n] else "has no label in the list"
        if n in shared:
            problem = "is one of several files that one row of the list could mean"
        entries.append(Entry(n, None if n in shared else found[n], split_of[n], problem))
    return entries, []


def read_labels(content: bytes, name: str) -> Labels | None:
    """{file: class} from a label file's bytes.

    It is JSON {file: class}, StyleGAN's dataset.json, or CSV rows file,class.
    Returns: None where the file says that there are no labels.
    Raises: DataError for anything else.
    """
    try:
        text = content.decode("utf-8-sig")
        if not name.lower().endswith(".json"):
            return _once(_rows(text))
        record = json.loads(text, object_pairs_hook=_once)
        if not isinstance(record, dict):
            raise ValueError("an object is wanted")
        styled = isinstance(record.get("labels", 0), list | None)  # as StyleGAN writes it
        pairs = record["labels"] if styled else list(record.items())
        if pairs is None:
            return None
        return _once((str(n).replace("\\", "/"), _class_of(v)) for n, v in pairs)
    except (ValueError, TypeError, RecursionError, csv.Error) as e:
        raise DataError(f"'{name}' is no list of labels ({e}): wanted are CSV rows file,class or "
                        'JSON {"file": "class"}.') from None


def _rows(text: str) -> list[tuple[str, str]]:
    """(file, class) of every CSV row.

    There are two columns, or those that the header calls file… or image… and label or class.
    """
    rows = [[cell.strip() for cell in r] for r in csv.reader(io.StringIO(text)) if r]
    if not rows:
        raise ValueError("it is empty")
    head = [cell.lower() for cell in rows[0]]
    file, label = 0, 1
    if len(head) > 2 or {"label", "class"} & set(head):
        files = ("file", "image", "name", "path")
        try:
            label = next(k for k, cell in enumerate(head) if cell in ("label", "class"))
            file = next(k for k, cell in enumerate(head) if cell.startswith(files))
        except StopIteration:
            wanted = "of more than two columns a first row must name file and class"
            raise ValueError(wanted) from None
        rows = rows[1:]
    if len(head) < 2 or any(len(r) != len(head) for r in rows):
        raise ValueError("rows of file,class are wanted, as many columns in each")
    return [(r[file].replace("\\", "/"), r[label]) for r in rows if r[label]]


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dictionary; a name with two values is an error."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise ValueError(f"it gives '{name}' both {found[name]!r} and {value!r}")
    return found


def _class_of(value: Any) -> str:
    if isinstance(value, list):  # one-hot, as StyleGAN allows
        if sorted(value) != [0] * (len(value) - 1) + [1]:
            raise ValueError(f"{value} names no class")
        value = value.index(1)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value} names no class")
    if not isinstance(value, str | int | float):
        raise ValueError(f"{value} names no class")
    return value if isinstance(value, str) else str(int(value))


def labels_from(path: str | Path) -> Labels | None:
    """`read_labels` of a file. Raises: DataError where it cannot be read."""
    path = Path(path)
    if path.exists() and (not path.is_file() or path.stat().st_size > MOST):
        wanted = f"an ordinary file of at most {MOST // 10**6} MB"
        raise DataError(f"'{path}' is no list of labels: {wanted} is wanted.")
    try:
        content = path.read_bytes()
    except OSError as e:
        raise DataError(f"The file of labels '{path}' cannot be read ({e.strerror}); --classes is "
                        "folders, none or a file.") from None
    return read_labels(content, path.name)
