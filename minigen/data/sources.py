"""ImageSource: the images of a folder, of a zip (read in place) or of parquet files, with their classes."""

import os
import re
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from minigen.data.layout import SUFFIXES, Entry, arrange, is_hidden, labels_from, read_labels
from minigen.errors import DataError, first_line

LARGEST = 2**28  # bytes of one file that are read at most: 256 MB; a video among the photographs is left out


@dataclass(frozen=True)
class SourceItem:
    """One file of a source: its name there, its class and split (None where there is none) and its bytes.

    problem: why it cannot be used, or None; then the bytes are empty.
    """

    name: str
    label: str | None
    split: str | None
    data: bytes
    problem: str | None = None


class ImageSource:
    """Iterates over the files of `path` in a fixed order; `len` counts them, `classes` and `splits` name them.

    A folder's or zip's first level of sub-folders are the classes, a level train/val/test above it is the split
    (`minigen.data.layout`); a StyleGAN dataset.json is read. Parquet: see `minigen.data.parquet`.
    `notes` tells in sentences what was taken for what. Whether a file is an image is found only when it is decoded.
    use_classes: True; False for none; "folders" to take every first folder as a class; or the path of a file of labels.
    image_column, label_column: of parquet, where names and types do not tell.

    Raises: DataError for a wrong path, nothing inside, a zip that is torn or holds entries that leave it, images
        both beside and inside class folders, an empty class folder, an unknown split, parquet beside loose images.
    """

    def __init__(self, path, split=None, use_classes=True, image_column=None, label_column=None):
        self.path = Path(path)
        labels = labels_from(use_classes) if use_classes not in (True, False, "folders") else None
        self._backend = _backend(self.path, image_column, label_column)
        entries, self.notes = self._backend.entries(bool(use_classes) and use_classes, labels, split)
        if not entries:
            raise DataError(f"'{path}' holds no files.")
        self.splits = sorted({e.split for e in entries} - {None})
        if split is not None:
            if split not in self.splits:
                raise DataError(f"'{path}' has no split '{split}'; it has {', '.join(self.splits) or 'none at all'}.")
            entries = [e for e in entries if e.split == split]
        self._entries = entries
        found = {e.label for e in entries} - {None}
        numbers = all(c.isdigit() for c in found)                 # so that class 2 comes before class 10
        named = self._backend.class_names if use_classes and labels is None else None
        self.classes = named or sorted(found, key=lambda c: (len(c), c) if numbers else c)

    def __len__(self):
        return len(self._entries)

    def __iter__(self):
        for entry, data, problem in self._backend.read(self._entries):
            yield SourceItem(entry.name, entry.label, entry.split, b"" if problem else data, problem)


def _backend(path, image_column, label_column):
    from minigen.data.parquet import Parquet

    if path.is_dir():
        folder = _Folder(path)
        parquet = [n for n in folder.names if n.lower().endswith(".parquet")]
        if not parquet:
            return folder
        if loose := next((n for n in folder.names if n.lower().endswith(SUFFIXES)), None):
            raise DataError(f"'{path}' holds parquet files and loose images (such as '{loose}'): pass one of the two.")
        return Parquet(path, parquet, image_column, label_column)
    if not path.exists():
        raise DataError(f"There is no file or folder '{path}'.")
    if not path.is_file():
        raise DataError(f"'{path}' is neither a folder nor an ordinary file.")
    if path.suffix.lower() == ".parquet":
        return Parquet(path.parent, [path.name], image_column, label_column)
    if zipfile.is_zipfile(path):
        return _Zip(path)
    raise DataError(f"'{path}' is neither a folder, nor a whole zip, nor parquet.")


def _childless(directories, names):
    """The directories below which no file lies."""
    full = {str(parent) for n in names for parent in PurePosixPath(n).parents}
    return sorted(d for d in directories if d not in full and not is_hidden(d))


def _labels_inside(names, read, labels):
    """(labels, names without the label file, notes): a StyleGAN dataset.json counts where no other labels were given."""
    tables = [n for n in names if PurePosixPath(n).name == "dataset.json"]
    if labels is not None or not tables:
        return labels, names, []
    names, found = [n for n in names if n not in tables], {}
    for table in tables:                                  # each speaks of what lies beside and below it
        try:
            told = read_labels(read(table), "dataset.json")
        except DataError as e:
            return None, names, [f"{e} It is left aside."]
        found |= {(PurePosixPath(table).parent / n).as_posix(): label for n, label in (told or {}).items()}
    if not found:
        return None, names, ["dataset.json says that there are no labels."]
    return found, names, ["The labels of dataset.json are taken as classes."]


class _Folder:
    """The files below a folder; links are followed, and every folder is read once."""

    class_names = None

    def __init__(self, path):
        self.path, self.names, self.directories, self.problems = path, [], [], {}
        seen, waiting, links = set(), [(path, "")], []
        while waiting or links:
            folder, prefix = waiting.pop() if waiting else links.pop()    # links last: what they lead to may lie here
            try:
                here = os.stat(folder)
                if (here.st_dev, here.st_ino) in seen:
                    self.problems[prefix.rstrip("/")] = "a link to a folder that is read already"
                    continue
                seen.add((here.st_dev, here.st_ino))
                with os.scandir(folder) as found:
                    children = sorted(found, key=lambda e: e.name, reverse=True)
            except OSError as e:
                raise DataError(f"The folder '{folder}' cannot be read ({e.strerror}): allow it, or move the folder "
                                "away.") from None
            if {"images.npy", "manifest.json"} <= {e.name for e in children} and prefix:
                self.problems[prefix.rstrip("/")] = "a folder of prepared images"
                continue
            if prefix:
                self.directories.append(prefix.rstrip("/"))
            for child in children:
                self._sort(child, f"{prefix}{child.name}", waiting, links)
        self.names.sort()

    def _sort(self, child, name, waiting, links):
        if is_hidden(name):
            return
        try:
            folder, file = child.is_dir(), child.is_file()
        except OSError:                                   # a link to itself
            folder = file = False
        if folder:
            (links if child.is_symlink() else waiting).append((Path(child.path), f"{name}/"))
        elif file:
            self.names.append(name)
        else:
            self.problems[name] = "a link that leads nowhere" if child.is_symlink() else "not an ordinary file"

    def entries(self, use_classes, labels, split):
        empty = _childless(self.directories, self.names)
        names, notes = self.names, []
        if use_classes is True:
            labels, names, notes = _labels_inside(names, lambda n: self._bytes(n)[0], labels)
        entries, more = arrange(self.path, names, empty, use_classes, labels, split)
        return entries + [Entry(n, problem=p) for n, p in sorted(self.problems.items())], notes + more

    def _bytes(self, name):
        try:
            with open(self.path / name, "rb") as f:
                size = os.fstat(f.fileno())
                if not stat.S_ISREG(size.st_mode):
                    return b"", "not an ordinary file"
                if size.st_size > LARGEST:
                    return b"", _too_large(size.st_size)
                return f.read(LARGEST + 1), None
        except OSError as e:
            return b"", f"no readable bytes ({e.strerror})"

    def read(self, entries):
        for entry in entries:
            data, problem = (b"", entry.problem) if entry.problem else self._bytes(entry.name)
            yield entry, data, problem


def _too_large(size):
    return f"{size / 1e6:,.0f} MB in one file, more than the {LARGEST / 1e6:,.0f} MB that are read"


class _Zip:
    class_names = None

    def __init__(self, path):
        self.path = path
        try:
            self.zip = zipfile.ZipFile(path)
        except Exception as e:  # a damaged directory makes zipfile raise what it likes
            raise DataError(f"'{path}' is not a whole zip file ({first_line(e)}).") from None
        self.infos, self.problems = {}, []
        for info in self.zip.infolist():
            name = info.filename.replace("\\", "/")       # some Windows programs write backslashes
            if name in self.infos and not name.endswith("/"):
                self.problems.append(Entry(name, problem="the zip holds this name twice; the last one is used"))
            self.infos[name] = info

    def entries(self, use_classes, labels, split):
        for name in self.infos:
            parts = PurePosixPath(name).parts
            if ".." in parts or name.startswith("/") or re.match(r"[A-Za-z]:(/|$)", name):
                raise DataError(f"'{self.path}' holds the entry '{name}', which leaves the archive: "
                                "it is refused whole; make the zip anew from the images.")
        if self.infos and all(i.flag_bits & 1 for n, i in self.infos.items() if not n.endswith("/")):
            raise DataError(f"'{self.path}' is encrypted; unpack it first and pass the folder.")
        names = sorted(n for n in self.infos if not n.endswith("/") and not is_hidden(n))
        directories = [n.rstrip("/") for n in self.infos if n.endswith("/")]
        empty, notes = _childless(directories, names), []
        if use_classes is True:
            labels, names, notes = _labels_inside(names, lambda n: self._bytes(n)[0], labels)
        entries, more = arrange(self.path, names, empty, use_classes, labels, split)
        return entries + self.problems, notes + more

    def _bytes(self, name):
        info = self.infos[name]
        if info.flag_bits & 1:
            return b"", "is encrypted: unpack the zip first and pass the folder"
        if info.file_size > LARGEST:
            return b"", _too_large(info.file_size)
        try:
            with self.zip.open(info) as f:
                data = f.read(LARGEST + 1)                # in one bounded read: the size above may be a lie
        except Exception as e:  # torn inside, or packed in a way Python does not know: each packing has its own errors
            return b"", f"no readable bytes ({first_line(e)})"
        return (data, None) if len(data) <= LARGEST else (b"", _too_large(len(data)))

    def read(self, entries):
        for entry in entries:
            data, problem = (b"", entry.problem) if entry.problem else self._bytes(entry.name)
            yield entry, data, problem
