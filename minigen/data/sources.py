"""ImageSource: images of a folder, of a zip (read in place) or of parquet, with their classes."""

import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from minigen.data.layout import (
    Entry,
    Labels,
    arrange,
    is_hidden,
    is_image,
    labels_from,
    read_labels,
)
from minigen.data.parquet import Parquet
from minigen.errors import DataError, first_line

LARGEST = 2**28  # bytes of one file read at most, 256 MB: a video among photographs is left out


@dataclass(frozen=True)
class SourceItem:
    """One file of a source: its name there, its class and split (or None), and its bytes.

    problem: why it cannot be used, or None; then the bytes are empty.
    """

    name: str
    label: str | None
    split: str | None
    data: bytes
    problem: str | None = None


class ImageSource:
    """Iterates over the files of `path` in a fixed order; `len` counts them.

    `classes` and `splits` name them, and `notes` tells in sentences what was taken for what.
    A folder's or zip's first level of sub-folders are the classes, a level train/val/test above it
    is the split (`minigen.data.layout`); a StyleGAN dataset.json is read. Parquet: see
    `minigen.data.parquet`. Whether a file is an image is found only when it is decoded.

    use_classes: True; False for none; "folders" to take every first folder as a class; or the path
    of a file of labels. image_column, label_column: of parquet, where names and types do not tell.

    Raises: DataError for a wrong path, nothing inside, a zip that is torn or holds entries that
        leave it, images both beside and inside class folders, an empty class folder, an unknown
        split, parquet beside loose images.
    """

    def __init__(
        self,
        path: str | Path,
        split: str | None = None,
        use_classes: bool | str | Path = True,
        image_column: str | None = None,
        label_column: str | None = None,
    ) -> None:
        self.path = Path(path)
        named = use_classes in (True, False, "folders")
        labels = None if named else labels_from(str(use_classes))
        self._backend = _backend(self.path, image_column, label_column)
        wanted: bool | str = "folders" if use_classes == "folders" else bool(use_classes)
        entries, self.notes = self._backend.entries(wanted, labels, split)
        if not entries:
            raise DataError(f"'{path}' holds no files.")
        self.splits = sorted({e.split for e in entries if e.split is not None})
        if split is not None:
            if split not in self.splits:
                existing = ", ".join(self.splits) or "none at all"
                raise DataError(f"'{path}' has no split '{split}'; it has {existing}.")
            entries = [e for e in entries if e.split == split]
        self._entries = entries
        found = {e.label for e in entries if e.label is not None}
        given = self._backend.class_names if use_classes and labels is None else None
        self.classes = given or _in_order(found)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[SourceItem]:
        for entry, data, problem in self._backend.read(self._entries):
            data = b"" if problem else data
            yield SourceItem(entry.name, entry.label, entry.split, data, problem)


def _in_order(classes: set[str]) -> list[str]:
    """Sorted; where all are numbers, class 2 comes before class 10."""
    if all(c.isdigit() for c in classes):
        return sorted(classes, key=lambda c: (len(c), c))
    return sorted(classes)


def _backend(
    path: Path, image_column: str | None, label_column: str | None
) -> "_Folder | _Zip | Parquet":
    if path.is_dir():
        folder = _Folder(path)
        parquet = [n for n in folder.names if n.lower().endswith(".parquet")]
        if not parquet:
            return folder
        if loose := next(filter(is_image, folder.names), None):
            raise DataError(f"'{path}' holds parquet files and loose images (such as '{loose}'): "
                            "pass one of the two.")
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


def _childless(directories: list[str], names: list[str]) -> list[str]:
    """The directories below which no file lies."""
    full = {str(parent) for n in names for parent in PurePosixPath(n).parents}
    return sorted(d for d in directories if d not in full and not is_hidden(d))


def _labels_inside(
    names: list[str], read: Callable[[str], bytes], labels: Labels | None
) -> tuple[Labels | None, list[str], list[str]]:
    """(labels, names without the label file, notes).

    A StyleGAN dataset.json counts where no other labels were given.
    """
    tables = [n for n in names if PurePosixPath(n).name == "dataset.json"]
    if labels is not None or not tables:
        return labels, names, []
    names = [n for n in names if n not in tables]
    found: Labels = {}
    for table in tables:  # each speaks of what lies beside and below it
        try:
            listed = read_labels(read(table), "dataset.json") or {}
        except DataError as e:
            return None, names, [f"{e} It is left aside."]
        folder = PurePosixPath(table).parent
        found |= {(folder / n).as_posix(): label for n, label in listed.items()}
    if not found:
        return None, names, ["dataset.json says that there are no labels."]
    return found, names, ["The labels of dataset.json are taken as classes."]


class _Folder:
    """The files below a folder; links are followed, and every folder is read once."""

    class_names: list[str] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.directories: list[str] = []
        self.problems: dict[str, str] = {}
        seen: set[tuple[int, int]] = set()
        waiting, links = [(path, "")], list[tuple[Path, str]]()
        while waiting or links:
            # links last: what they lead to may lie here
            folder, prefix = waiting.pop() if waiting else links.pop()
            try:
                here = os.stat(folder)
                if (here.st_dev, here.st_ino) in seen:
                    self.problems[prefix.rstrip("/")] = "a link to a folder that is read already"
                    continue
                seen.add((here.st_dev, here.st_ino))
                with os.scandir(folder) as found:
                    children = sorted(found, key=lambda e: e.name, reverse=True)
            except OSError as e:
                raise DataError(f"The folder '{folder}' cannot be read ({e.strerror}): allow it, "
                                "or move the folder away.") from None
            if {"images.npy", "manifest.json"} <= {e.name for e in children} and prefix:
                self.problems[prefix.rstrip("/")] = "a folder of prepared images"
                continue
            if prefix:
                self.directories.append(prefix.rstrip("/"))
            for child in children:
                self._sort(child, f"{prefix}{child.name}", waiting, links)
        self.names.sort()

    def _sort(
        self,
        child: os.DirEntry[str],
        name: str,
        waiting: list[tuple[Path, str]],
        links: list[tuple[Path, str]],
    ) -> None:
        if is_hidden(name):
            return
        try:
            folder, file = child.is_dir(), child.is_file()
        except OSError:  # a link to itself
            folder = file = False
        if folder:
            (links if child.is_symlink() else waiting).append((Path(child.path), f"{name}/"))
        elif file:
            self.names.append(name)
        elif child.is_symlink():
            self.problems[name] = "a link that leads nowhere"
        else:
            self.problems[name] = "not an ordinary file"

    def entries(
        self, use_classes: bool | str, labels: Labels | None, split: str | None
    ) -> tuple[list[Entry], list[str]]:
        empty = _childless(self.directories, self.names)
        names, notes = self.names, list[str]()
        if use_classes is True:
            labels, names, notes = _labels_inside(names, lambda n: self._bytes(n)[0], labels)
        entries, more = arrange(self.path, names, empty, use_classes, labels, split)
        entries += [Entry(n, problem=p) for n, p in sorted(self.problems.items())]
        return entries, notes + more

    def _bytes(self, name: str) -> tuple[bytes, str | None]:
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

    def read(self, entries: list[Entry]) -> Iterator[tuple[Entry, bytes, str | None]]:
        for entry in entries:
            data, problem = (b"", entry.problem) if entry.problem else self._bytes(entry.name)
            yield entry, data, problem


def _too_large(size: int) -> str:
    return f"{size / 1e6:,.0f} MB in one file, more than the {LARGEST / 1e6:,.0f} MB that are read"


class _Zip:
    class_names: list[str] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.zip = zipfile.ZipFile(path)
        except Exception as e:  # a damaged directory makes zipfile raise what it likes
            raise DataError(f"'{path}' is not a whole zip file ({first_line(e)}).") from None
        self.infos: dict[str, zipfile.ZipInfo] = {}
        self.problems: list[Entry] = []
        for info in self.zip.infolist():
            name = info.filename.replace("\\", "/")  # some Windows programs write backslashes
            if name in self.infos and not name.endswith("/"):
                problem = "the zip holds this name twice; the last one is used"
                self.problems.append(Entry(name, problem=problem))
            self.infos[name] = info

    def entries(
        self, use_classes: bool | str, labels: Labels | None, split: str | None
    ) -> tuple[list[Entry], list[str]]:
        for name in self.infos:
            parts = PurePosixPath(name).parts
            if ".." in parts or name.startswith("/") or re.match(r"[A-Za-z]:(/|$)", name):
                raise DataError(f"'{self.path}' holds the entry '{name}', which leaves the "
                                "archive: it is refused whole; make the zip anew from the images.")
        files = [info for name, info in self.infos.items() if not name.endswith("/")]
        if self.infos and all(info.flag_bits & 1 for info in files):
            raise DataError(f"'{self.path}' is encrypted; unpack it first and pass the folder.")
        names = sorted(n for n in self.infos if not n.endswith("/") and not is_hidden(n))
        directories = [n.rstrip("/") for n in self.infos if n.endswith("/")]
        empty, notes = _childless(directories, names), list[str]()
        if use_classes is True:
            labels, names, notes = _labels_inside(names, lambda n: self._bytes(n)[0], labels)
        entries, more = arrange(self.path, names, empty, use_classes, labels, split)
        return entries + self.problems, notes + more

    def _bytes(self, name: str) -> tuple[bytes, str | None]:
        info = self.infos[name]
        if info.flag_bits & 1:
            return b"", "is encrypted: unpack the zip first and pass the folder"
        if info.file_size > LARGEST:
            return b"", _too_large(info.file_size)
        try:
            with self.zip.open(info) as f:
                data = f.read(LARGEST + 1)  # in one bounded read: the size above may be a lie
        except Exception as e:  # torn, or packed in an unknown way: each packing has its own errors
            return b"", f"no readable bytes ({first_line(e)})"
        return (data, None) if len(data) <= LARGEST else (b"", _too_large(len(data)))

    def read(self, entries: list[Entry]) -> Iterator[tuple[Entry, bytes, str | None]]:
        for entry in entries:
            data, problem = (b"", entry.problem) if entry.problem else self._bytes(entry.name)
            yield entry, data, problem
