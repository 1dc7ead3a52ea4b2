"""Which class and split each file of a source belongs to, from the folders it lies in or from a file of labels."""

import csv
import io
import itertools
import json
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from minigen.errors import DataError

SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing", "eval")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm",
            ".avif", ".heic", ".heif", ".jp2")


class Entry(NamedTuple):
    """A file of a source: its name there, its class and split (None: none), and why it is left out (None: it is not)."""

    name: str
    label: str | None = None
    split: str | None = None
    problem: str | None = None


def is_hidden(name):
    """Whether a file or a folder above it is of the kind that systems leave behind (".DS_Store", "__MACOSX")."""
    return any(p.startswith(".") or p == "__MACOSX" for p in PurePosixPath(name).parts)


def arrange(path, names, empty, use_classes=True, labels=None):
    """The entries of `names` and the sentences that tell what their folders were taken for: (entries, notes).

    A level train/val/test is the split. Below it the first folders are the classes, unless they only cut a large set
    into pieces (00000, 00001, … or 00000, 01000, … of equally many files) or there is one for all.
    empty: folders that hold nothing. use_classes: True; False for none; "folders" to take every first folder as a class.
    labels: {name: class} from a file; then the folders mean nothing. Names are relative, with "/".
    Raises: DataError where classes and splits, or images and class folders, lie side by side, and for an empty class.
    """
    folders = {n: PurePosixPath(n).parts[:-1] for n in names}
    while folders and all(len(f) > 1 and f[0] == next(iter(folders.values()))[0] and f[0].lower() not in SPLITS
                          for f in folders.values()):                    # the one folder most zips have at their top
        folders = {n: f[1:] for n, f in folders.items()}
    tops = {f[0] for f in folders.values() if f}
    split_tops = {t for t in tops if t.lower() in SPLITS}
    if use_classes and labels is None and split_tops and split_tops != tops:
        raise DataError(f"'{path}' has the split folder '{min(split_tops)}' beside the folder '{min(tops - split_tops)}', so "
                        "classes and splits can't be told apart: move one, or pass --classes none.")
    split_of = {n: f[0].lower() if f and f[0] in split_tops else None for n, f in folders.items()}
    below = {n: f[1:] if split_of[n] else f for n, f in folders.items()}
    if labels is not None:
        return _labelled(path, names, split_of, labels)
    if not use_classes:
        return [Entry(n, None, split_of[n]) for n in names], []
    if empty:
        raise DataError(f"The class folder '{empty[0]}' in '{path}' holds no image: fill it, remove it, "
                        "or pass --classes none.")
    first = {n: f[0] if f else None for n, f in below.items()}
    kinds = {k for k in first.values() if k is not None}
    if not kinds:
        return [Entry(n, None, split_of[n]) for n in names], []
    if use_classes != "folders":
        if all(first.values()) and len(kinds) == 1 and not split_tops:
            note = f"All files lie in the one folder '{kinds.pop()}', which is taken as no class (--classes folders: as one)."
            return [Entry(n) for n in names], [note]
        if _are_pieces(list(first.values())):
            note = (f"The folders {min(kinds)} to {max(kinds)} are taken as pieces of one set, not as classes "
                    "(--classes folders: as classes).")
            return [Entry(n, None, split_of[n]) for n in names], [note]
    loose = [n for n in names if first[n] is None and n.lower().endswith(SUFFIXES)]
    if loose:
        raise DataError(f"'{path}' has images in class folders and others beside them (such as '{loose[0]}'): "
                        "move those, or pass --classes none to ignore the folders.")
    for kind in sorted(kinds):
        inside = [n for n in names if first[n] == kind]
        if all(PurePosixPath(n).suffix and not n.lower().endswith(SUFFIXES) for n in inside):
            raise DataError(f"The folder '{kind}' in '{path}' would be a class but holds no image (but '{inside[0]}'): "
                            "move it away, or pass --classes none to ignore the folders.")
    return [Entry(n, first[n], split_of[n]) for n in names], ["The folders are taken as classes (--classes none: not)."]


def _are_pieces(folders):
    """Whether folder names only number the pieces of one set: 0-padded, evenly spaced, equally full but for the last."""
    counts = {k: folders.count(k) for k in sorted(set(folders) - {None})}
    names = list(counts)
    if len(names) < 2 or not all(n.isascii() and n.isdigit() for n in names):
        return False
    if {len(n) for n in names} != {len(names[0])} or len(names[0]) < 3 or names[0][0] != "0":
        return False
    steps = {int(b) - int(a) for a, b in itertools.pairwise(names)}
    full = set(list(counts.values())[:-1])
    return len(steps) == 1 and int(names[0]) % steps.pop() == 0 and len(full) == 1


def _labelled(path, names, split_of, labels):
    found = {n: labels.get(n, labels.get(PurePosixPath(n).name)) for n in names}
    for n in names:                                       # names may be told from some folder on: a/b/1.png as b/1.png
        parts = PurePosixPath(n).parts
        for k in range(1, len(parts)):
            if found[n] is None:
                found[n] = labels.get("/".join(parts[k:]))
    if not any(found.values()):
        raise DataError(f"None of the files of '{path}' stands in the list of labels; such as '{names[0]}' does not.")
    return [Entry(n, found[n], split_of[n], None if found[n] else "has no label in the list") for n in names], []


def read_labels(content, name):
    """{file: class} from a label file's bytes: JSON {file: class}, StyleGAN's dataset.json, or CSV rows file,class.

    Returns: None where the file says that there are no labels. Raises: DataError for anything else.
    """
    try:
        text = content.decode("utf-8-sig")
        if not name.lower().endswith(".json"):
            rows = [r for r in csv.reader(io.StringIO(text)) if r]
            if not rows or any(len(r) < 2 for r in rows):
                raise ValueError("rows of file,class are wanted")
            return {r[0].strip(): r[1].strip() for r in rows if r[1].strip()}
        told = json.loads(text)
        if not isinstance(told, dict):
            raise ValueError("an object is wanted")
        pairs = told["labels"] if isinstance(told.get("labels", 0), list | None) else list(told.items())
        return None if pairs is None else {str(n).replace("\\", "/"): _class_of(v) for n, v in pairs}
    except (ValueError, TypeError, RecursionError, csv.Error) as e:
        raise DataError(f"'{name}' is no list of labels ({e}): wanted are CSV rows file,class or JSON "
                        '{"file": "class"}.') from None


def _class_of(value):
    if isinstance(value, list):                           # one-hot, as StyleGAN allows
        if sorted(value) != [0] * (len(value) - 1) + [1]:
            raise ValueError(f"{value} names no class")
        value = value.index(1)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value} names no class")
    if not isinstance(value, str | int | float):
        raise ValueError(f"{value} names no class")
    return value if isinstance(value, str) else str(int(value))


def labels_from(path):
    """`read_labels` of a file. Raises: DataError where it cannot be read."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as e:
        raise DataError(f"The file of labels '{path}' cannot be read ({e.strerror}); --classes is folders, none or a "
                        "file.") from None
    return read_labels(content, path.name)
