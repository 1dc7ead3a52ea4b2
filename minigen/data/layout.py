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


MOST = 10**8  # bytes of a list of labels


class Entry(NamedTuple):
    """A file of a source: its name there, its class and split (None: none), and why it is left out (None: it is not)."""

    name: str
    label: str | None = None
    split: str | None = None
    problem: str | None = None


def is_hidden(name):
    """Whether a file or a folder above it is of the kind that systems leave behind (".DS_Store", "__MACOSX")."""
    return any(p.startswith(".") or p == "__MACOSX" for p in PurePosixPath(name).parts)


def arrange(path, names, empty, use_classes=True, labels=None, split=None):
    """The entries of `names` and the sentences that tell what their folders were taken for: (entries, notes).

    A level train/val/test is the split. Below it the first folders are the classes, unless they only cut a large set
    into pieces (00000, 00001, … or 00000, 01000, … of equally many files) or there is one for all.
    empty: folders that hold nothing. use_classes: True; False for none; "folders" to take every first folder as a class.
    labels: {name: class} from a file; then the folders mean nothing. split: only this one is looked at. Names are relative,
    with "/".
    Raises: DataError where classes and splits, or images and class folders, lie side by side, and for an empty class.
    """
    folders = {n: PurePosixPath(n).parts[:-1] for n in names}
    images = [n for n in names if n.lower().endswith(SUFFIXES)] or names     # a README beside them decides nothing
    while images and all(len(folders[n]) > 1 and folders[n][0] == folders[images[0]][0]
                         and folders[n][0].lower() not in SPLITS for n in images):    # the one folder most zips have at their top
        top = folders[images[0]][0]
        folders = {n: f[1:] if f[:1] == (top,) else f for n, f in folders.items()}
    tops = {folders[n][0] for n in images if folders[n]}
    split_tops = {t for t in tops if t.lower() in SPLITS}
    if use_classes == "folders" and split_tops != tops:
        split_tops = set()                                # asked for: each folder is a class, whatever its name
    if use_classes and labels is None and split_tops and split_tops != tops:
        raise DataError(f"'{path}' has the split folder '{min(split_tops)}' beside the folder '{min(tops - split_tops)}', so "
                        "classes and splits can't be told apart: move one, or pass --classes none.")
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
    found, used = {}, {}
    for n in names:                                       # names may be told from some folder on: a/b/1.png as b/1.png
        parts = PurePosixPath(n).parts
        told = next((t for t in ("/".join(parts[k:]) for k in range(len(parts))) if t in labels), None)
        found[n] = labels.get(told)
        used.setdefault(told, []).append(n)
    if not any(found.values()):
        raise DataError(f"None of the files of '{path}' stands in the list of labels; such as '{names[0]}' does not, and the "
                        f"list has such as '{next(iter(labels), '')}'.")
    twice = {n for told, those in used.items() if told is not None and len(those) > 1 for n in those}
    problem = {n: "is one of several files that one row of the list could mean" for n in twice}
    return [Entry(n, None if n in twice else found[n], split_of[n],
                  problem.get(n, None if found[n] else "has no label in the list")) for n in names], []


def read_labels(content, name):
    """{file: class} from a label file's bytes: JSON {file: class}, StyleGAN's dataset.json, or CSV rows file,class.

    Returns: None where the file says that there are no labels. Raises: DataError for anything else.
    """
    try:
        text = content.decode("utf-8-sig")
        if not name.lower().endswith(".json"):
            return _once(_rows(text))
        told = json.loads(text, object_pairs_hook=_once)
        if not isinstance(told, dict):
            raise ValueError("an object is wanted")
        pairs = told["labels"] if isinstance(told.get("labels", 0), list | None) else list(told.items())
        return None if pairs is None else _once((str(n).replace("\\", "/"), _class_of(v)) for n, v in pairs)
    except (ValueError, TypeError, RecursionError, csv.Error) as e:
        raise DataError(f"'{name}' is no list of labels ({e}): wanted are CSV rows file,class or JSON "
                        '{"file": "class"}.') from None


def _rows(text):
    """(file, class) of every CSV row: two columns, or those that the header calls file… or image… and label or class."""
    rows = [[cell.strip() for cell in r] for r in csv.reader(io.StringIO(text)) if r]
    if not rows:
        raise ValueError("it is empty")
    head, file, label = [cell.lower() for cell in rows[0]], 0, 1
    if len(head) > 2 or {"label", "class"} & set(head):
        try:
            label = next(k for k, cell in enumerate(head) if cell in ("label", "class"))
            file = next(k for k, cell in enumerate(head) if cell.startswith(("file", "image", "name", "path")))
        except StopIteration:
            raise ValueError("of more than two columns a first row must name file and class") from None
        rows = rows[1:]
    if len(head) < 2 or any(len(r) != len(head) for r in rows):
        raise ValueError("rows of file,class are wanted, as many columns in each")
    return [(r[file].replace("\\", "/"), r[label]) for r in rows if r[label]]


def _once(pairs):
    """The pairs as a dictionary; a name with two values is an error."""
    found = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise ValueError(f"it gives '{name}' both {found[name]!r} and {value!r}")
    return found


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
    if path.exists() and (not path.is_file() or path.stat().st_size > MOST):
        raise DataError(f"'{path}' is no list of labels: an ordinary file of at most {MOST // 10**6} MB is wanted.")
    try:
        content = path.read_bytes()
    except OSError as e:
        raise DataError(f"The file of labels '{path}' cannot be read ({e.strerror}); --classes is folders, none or a "
                        "file.") from None
    return read_labels(content, path.name)
