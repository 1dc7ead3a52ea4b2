"""ImageSource: the images of a folder, of a zip (read in place) or of parquet files, with their classes."""

import json
import lzma
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from minigen.errors import DataError

SPLITS = ("train", "val", "valid", "validation", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True)
class SourceItem:
    """One file of a source: its name there, its class and split (None where there is none) and its bytes.

    The bytes are empty where they could not be read.
    """

    name: str
    label: str | None
    split: str | None
    data: bytes


class ImageSource:
    """Iterates over the files of `path` in a fixed order; `len` counts them, `classes` and `splits` name them.

    A folder's or zip's first level of sub-folders are the classes; a level train/val/test above it is the split.
    In parquet the image is a column of bytes, or a struct with a field `bytes`, and `label` the class.
    Whether a file is an image at all is found only when it is decoded (see `prepare`).

    Raises: DataError for a wrong path, nothing inside, a zip that is torn or holds entries that leave it, images
        both beside and inside class folders, an empty class folder, an unknown split, parquet beside loose images.
    """

    def __init__(self, path, split=None, use_classes=True):
        self.path = Path(path)
        if not self.path.exists():
            raise DataError(f"There is no file or folder '{path}'.")
        self._backend = _backend(self.path)
        entries = self._backend.entries(use_classes)
        if not entries:
            raise DataError(f"'{path}' holds no files.")
        self.splits = sorted({e[2] for e in entries} - {None})
        if split is not None:
            if split not in self.splits:
                raise DataError(f"'{path}' has no split '{split}'; it has {', '.join(self.splits) or 'none at all'}.")
            entries = [e for e in entries if e[2] == split]
        self._entries = entries
        found = {e[1] for e in entries} - {None}
        numbers = all(c.isdigit() for c in found)                 # so that class 2 comes before class 10
        self.classes = (self._backend.class_names if use_classes else None) or sorted(
            found, key=lambda c: (len(c), c) if numbers else c)

    def __len__(self):
        return len(self._entries)

    def __iter__(self):
        for (name, label, split), data in self._backend.read(self._entries):
            yield SourceItem(name, label, split, data)


def _backend(path):
    if path.is_dir():
        folder = _Folder(path)
        parquet = [n for n in folder.names if n.endswith(".parquet")]
        if not parquet:
            return folder
        if loose := next((n for n in folder.names if n.lower().endswith(SUFFIXES)), None):
            raise DataError(f"'{path}' holds parquet files and loose images (such as '{loose}'): pass one of the two.")
        return _Parquet(path, parquet)
    if path.suffix == ".parquet":
        return _Parquet(path.parent, [path.name])
    if zipfile.is_zipfile(path):
        return _Zip(path)
    raise DataError(f"'{path}' is neither a folder, nor a whole zip, nor parquet.")


def _arranged(path, names, empty, use_classes):
    """(name, class, split) of every name, from the folders it lies in."""
    folders = {n: PurePosixPath(n).parts[:-1] for n in names}
    if not folders:
        return []
    while all(len(f) > 1 and f[0] == next(iter(folders.values()))[0] and f[0].lower() not in SPLITS
              for f in folders.values()):                     # the one folder most zips have at their top
        folders = {n: f[1:] for n, f in folders.items()}
    if use_classes and empty:
        raise DataError(f"The class folder '{empty[0]}' in '{path}' holds no image: fill it or remove it.")
    tops = {f[0] for f in folders.values() if f}
    split_tops = {t for t in tops if t.lower() in SPLITS}
    if use_classes and split_tops and split_tops != tops:
        raise DataError(f"'{path}' has the split folder '{min(split_tops)}' beside the folder '{min(tops - split_tops)}', so "
                        "classes and splits can't be told apart: move one, or pass --no-classes.")
    out = []
    for name, f in folders.items():
        split, rest = (f[0].lower(), f[1:]) if f and f[0] in split_tops else (None, f)
        out.append((name, rest[0] if rest and use_classes else None, split))
    loose = [name for name, label, _ in out if label is None and name.lower().endswith(SUFFIXES)]
    if loose and any(label is not None for _, label, _ in out):
        raise DataError(f"'{path}' has images in class folders and others beside them (such as '{loose[0]}'): "
                        "move those, or pass --no-classes to ignore the folders.")
    return out


def _hidden(name):
    return any(p.startswith(".") or p == "__MACOSX" for p in PurePosixPath(name).parts)


def _childless(directories, names):
    """The directories below which no file lies."""
    full = {str(parent) for n in names for parent in PurePosixPath(n).parents}
    return sorted(d for d in directories if d not in full and not _hidden(d))


class _Folder:
    class_names = None

    def __init__(self, path):
        self.path = path
        below = [(p, p.relative_to(path).as_posix()) for p in path.rglob("*")]
        self.names = sorted(n for p, n in below if p.is_file() and not _hidden(n))
        self.directories = [n for p, n in below if p.is_dir()]

    def entries(self, use_classes):
        return _arranged(self.path, self.names, _childless(self.directories, self.names), use_classes)

    def read(self, entries):
        for entry in entries:
            try:
                data = (self.path / entry[0]).read_bytes()
            except OSError:                                   # no permission, say: decoding names and skips it
                data = b""
            yield entry, data


class _Zip:
    class_names = None

    def __init__(self, path):
        self.path = path
        try:
            self.zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as e:
            raise DataError(f"'{path}' is not a whole zip file ({e}).") from None
        # some Windows programs write backslashes
        self.infos = {i.filename.replace("\\", "/"): i for i in self.zip.infolist()}

    def entries(self, use_classes):
        for name, info in self.infos.items():
            parts = PurePosixPath(name).parts
            if ".." in parts or name.startswith("/") or (parts and ":" in parts[0]):
                raise DataError(f"'{self.path}' holds the entry '{name}', which leaves the archive: "
                                "it is refused whole; make the zip anew from the images.")
            if info.flag_bits & 1:
                raise DataError(f"'{self.path}' is encrypted; unpack it first and pass the folder.")
        names = sorted(n for n in self.infos if not n.endswith("/") and not _hidden(n))
        directories = [n.rstrip("/") for n in self.infos if n.endswith("/")]
        return _arranged(self.path, names, _childless(directories, names), use_classes)

    def read(self, entries):
        for entry in entries:
            try:
                data = self.zip.read(self.infos[entry[0]])
            except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError):
                data = b""                                    # torn inside, or packed in a way Python does not know
            yield entry, data


class _Parquet:
    def __init__(self, root, names):
        try:
            import pyarrow
            import pyarrow.parquet as pq
        except ImportError:
            raise DataError("Reading parquet needs the package pyarrow: pip install pyarrow") from None
        self.types, self.files = pyarrow.types, []
        for name in names:
            try:
                self.files.append((name, pq.ParquetFile(root / name)))
            except (pyarrow.ArrowInvalid, OSError) as e:
                raise DataError(f"'{name}' is not a whole parquet file ({str(e).splitlines()[0]}).") from None
        columns = {name: self._columns(name, file.schema_arrow) for name, file in self.files}
        self.image, self.label, self.class_names = columns[names[0]]
        for name, found in columns.items():
            if found != columns[names[0]]:
                raise DataError(f"'{name}' and '{names[0]}' have different columns or classes, so they are not parts of one "
                                "data set: pass them one at a time.")

    def _columns(self, name, schema):
        types = self.types

        def holds_bytes(t):
            return types.is_binary(t) or types.is_large_binary(t) or (
                types.is_struct(t) and any(f.name == "bytes" for f in t))

        images = [f.name for f in schema if holds_bytes(f.type)]
        if not images:
            raise DataError(f"'{name}' has no column of image bytes; its columns are {', '.join(schema.names)}.")
        label = next((n for n in ("label", "labels", "class") if n in schema.names), None)
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return images[0], label, features.get(label, {}).get("names")

    def _name_of(self, value):
        if value is None:
            return None
        if self.class_names and isinstance(value, int) and 0 <= value < len(self.class_names):
            return self.class_names[value]
        return str(value)

    def entries(self, use_classes):
        out = []
        for name, file in self.files:
            path = PurePosixPath(name)
            words = [p.lower() for p in (*path.parts[:-1], path.name.split("-")[0].removesuffix(".parquet"))]
            split = next((w for w in words if w in SPLITS), None)
            rows = file.metadata.num_rows
            labels = file.read([self.label])[self.label].to_pylist() if self.label and use_classes else [None] * rows
            out += [(f"{name}#{row}", self._name_of(v), split) for row, v in enumerate(labels)]
        return out

    def read(self, entries):
        wanted = {e[0]: e for e in entries}
        for name, file in self.files:
            row = 0
            for batch in file.iter_batches(batch_size=64, columns=[self.image]):
                for value in batch.column(0).to_pylist():
                    entry = wanted.get(f"{name}#{row}")
                    row += 1
                    if entry:
                        yield entry, (value.get("bytes") if isinstance(value, dict) else value) or b""
