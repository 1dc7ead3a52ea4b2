"""Parquet files of images, as the hubs store them: which column is the image, which the class."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from minigen.data.layout import SPLITS, Entry, Labels
from minigen.errors import DataError, first_line

IMAGE_NAMES = ("image", "img", "images", "jpg", "jpeg", "png", "webp", "photo", "picture", "pixels",
               "bytes")
LABEL_NAMES = ("label", "labels", "class")
Row = tuple[str, str | None]  # its name, FILE#ROW, and its split
Class = tuple[str | None, str | None]  # of a row, and the problem with it


class Parquet:
    """The rows of one or several parquet files as entries FILE#ROW, rows counted from 0.

    The image is a column of bytes, or of structs with a field `bytes`: the one that the hub's
    features or its name call an image, or the only one. The class is the column of classes in the
    features, or the one called label. A row whose label fits no class, or whose bytes cannot be
    read, is told by its number and left out.

    Raises: DataError for a file that is not parquet, and where the columns do not tell and were not
        named.
    """

    def __init__(
        self,
        root: Path,
        names: list[str],
        image_column: str | None = None,
        label_column: str | None = None,
    ) -> None:
        try:
            import pyarrow
            import pyarrow.parquet as pq
        except ImportError:
            raise DataError("Reading parquet needs the package pyarrow: pip install "
                            "\"minigen[parquet]\", or pip install pyarrow.") from None
        self.types = pyarrow.types
        self.files: list[tuple[str, Any]] = []  # (name, the ParquetFile)
        self.notes: list[str] = []
        self.asked = image_column, label_column
        for name in names:
            try:
                file = pq.ParquetFile(root / name)
                rows = file.metadata.num_rows
                size = (root / name).stat().st_size
                if not 0 <= rows <= 100 * size:
                    raise ValueError(f"it claims {rows} rows in {size} bytes")
                columns = self._columns(name, file.schema_arrow)
            except DataError:
                raise
            except Exception as e:  # a damaged footer makes pyarrow raise what it likes
                what = f"'{name}' is not a whole parquet file"
                raise DataError(f"{what} ({first_line(e)}).") from None
            self.files.append((name, file))
            if len(self.files) == 1:
                self.image, self.label, self.class_names = first = columns
            if columns != first:
                raise DataError(f"'{name}' and '{names[0]}' have different columns or classes, so "
                                "they are not parts of one data set: pass them one at a time.")

    def _columns(self, name: str, schema: Any) -> tuple[str, str | None, list[str] | None]:
        """(image column, label column or None, names of the classes or None)"""
        features = self._features(name, schema)

        def kind(column: str) -> Any:
            feature = features.get(column)
            return feature.get("_type") if isinstance(feature, dict) else None

        holding = [f.name for f in schema if self._holds_bytes(f.type)]
        if not holding:
            columns = ", ".join(schema.names)
            raise DataError(f"'{name}' has no column of image bytes; its columns are {columns}.")
        called_images = [c for c in holding if kind(c) == "Image"]
        image = self._one_of(
            name, "image", self.asked[0], holding, called_images or holding, IMAGE_NAMES)
        classes = [c for c in schema.names if kind(c) == "ClassLabel"]
        others = [c for c in schema.names if c not in holding]
        likely = classes or [c for c in others if c.lower() in LABEL_NAMES]
        label = None
        if self.asked[1] or likely:
            label = self._one_of(name, "label", self.asked[1], others, likely, LABEL_NAMES)
        names = None
        if label and kind(label) == "ClassLabel":
            names = features[label].get("names")
        good = _are_names(names)
        if names is not None and not good:
            self.notes.append(f"The names of the classes in '{name}' cannot be read; the labels "
                              "stand for themselves.")
        return image, label, names if good else None

    def _features(self, name: str, schema: Any) -> dict[str, Any]:
        """What the hub's metadata says about each column."""
        record = (schema.metadata or {}).get(b"huggingface")
        if record is None:
            return {}
        try:
            return dict(json.loads(record)["info"]["features"])
        except (ValueError, KeyError, TypeError, RecursionError):
            self.notes.append(f"The metadata of '{name}' cannot be read; its columns are told by "
                              "their names.")
            return {}

    def _holds_bytes(self, kind: Any) -> bool:
        """Whether a column of this type holds bytes, or structs with a field `bytes`."""
        types = self.types

        def binary(t: Any) -> bool:
            return types.is_binary(t) or types.is_large_binary(t)

        if types.is_struct(kind):
            return any(field.name == "bytes" and binary(field.type) for field in kind)
        return binary(kind)

    def _one_of(
        self,
        name: str,
        what: str,
        asked: str | None,
        possible: list[str],
        likely: list[str],
        usual: Sequence[str],
    ) -> str:
        """The column that was asked for, else the one of the likely ones with a usual name."""
        if asked is not None:
            if asked not in possible:
                could_be = ", ".join(possible) or "none"
                raise DataError(f"'{name}' has no {what} column '{asked}'; it could be {could_be}.")
            return asked
        named = [c for wanted in usual for c in likely if c.lower() == wanted]
        if named or len(likely) == 1:
            return (named or likely)[0]
        raise DataError(f"'{name}' has several columns that could be the {what} "
                        f"({', '.join(likely)}): name one with --{what}-column.")

    def entries(
        self, use_classes: bool | str, labels: Labels | None, split: str | None = None
    ) -> tuple[list[Entry], list[str]]:
        """(an entry for every row, notes); as the entries of `minigen.data.sources`."""
        rows, values = [], []
        for name, file in self.files:
            own = _split_of(name)
            rows += [(f"{name}#{row}", own) for row in range(file.metadata.num_rows)]
            if self.label and use_classes and labels is None:
                values += self._labels(file)
        if labels is not None:
            return self._listed(rows, labels), self.notes
        if not values:
            return [Entry(n, None, s) for n, s in rows], self.notes
        return self._classed(rows, self._classes_of(values), split)

    def _listed(self, rows: list[Row], labels: Labels) -> list[Entry]:
        """The entries of rows whose classes a file of labels gives."""
        entries = []
        for name, split in rows:
            problem = None if labels.get(name) else "has no label in the list"
            entries.append(Entry(name, labels.get(name), split, problem))
        if not any(e.label for e in entries):
            raise DataError("None of the rows stands in the list of labels; rows are called "
                            "FILE.parquet#0, #1, …")
        return entries

    def _classed(
        self, rows: list[Row], classes: list[Class], split: str | None
    ) -> tuple[list[Entry], list[str]]:
        """(entries of rows with these (class, problem), notes)"""
        mine = [c for c, (_, own) in zip(classes, rows, strict=True) if split in (None, own)]
        if not any(label for label, _ in mine):  # in the split that is asked for
            if {problem for _, problem in mine} - {None, "has no label"}:
                raise DataError(f"Column '{self.label}' of '{self.files[0][0]}' gives no row a "
                                f"class (row 0 {classes[0][1]}): name another with --label-column, "
                                "or pass --classes none.")
            self.class_names = None
            note = f"No row has a label in column '{self.label}'."
            return [Entry(n, None, own) for n, own in rows], [*self.notes, note]
        note = (f"Column '{self.label}' is taken as the class, column '{self.image}' as the "
                "image.")
        entries = [Entry(name, label, own, problem)
                   for (name, own), (label, problem) in zip(rows, classes, strict=True)]
        return entries, [*self.notes, note]

    def _labels(self, file: Any) -> list[Any]:
        """The label of every row.

        A piece of the file at a time, so that damage in one leaves the others.
        """
        out = []
        for group, first, end in _pieces(file):
            try:
                column = file.read_row_group(group, columns=[self.label])[self.label]
                out += column.to_pylist()[: end - first]
            except Exception as e:  # damaged pages raise what they like
                out += [_Damaged(first_line(e))] * (end - len(out))
            out += [_Damaged("missing")] * (end - len(out))
        return out + [_Damaged("missing")] * (file.metadata.num_rows - len(out))

    def _classes_of(self, values: list[Any]) -> list[Class]:
        """(class or None, problem or None) of every label."""
        numbers = [v for v in values if isinstance(v, int | float)]
        whole = {int(v) for v in numbers if isinstance(v, int) or v.is_integer()}
        minus_means_none = bool(self.class_names) or not whole <= {-1, 1}
        return [self._class_of(v, minus_means_none) for v in values]

    def _class_of(self, value: Any, minus_means_none: bool) -> Class:
        if isinstance(value, _Damaged):
            return None, f"has a label that cannot be read ({value})"
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        minus = value == -1 and minus_means_none and not isinstance(value, bool)
        if value is None or value != value or minus:  # NaN is not itself
            return None, "has no label"
        if not isinstance(value, str | int):
            return None, f"has a label that names no class ({str(value)[:40]})"
        if not self.class_names or value in self.class_names:
            return (str(value), None) if value != "" else (None, "has no label")
        if isinstance(value, int) and 0 <= value < len(self.class_names):
            return self.class_names[value], None
        among = f"none of the {len(self.class_names)} classes"
        return None, f"has the label {value!r:.40}, which is {among}"

    def read(self, entries: list[Entry]) -> Iterator[tuple[Entry, bytes, str | None]]:
        """Yields (entry, bytes, problem or None) for each of the entries, in the files' order."""
        wanted = {e.name: e for e in entries}
        for name, file in self.files:
            row, columns = 0, [self.image]
            for group, _, end in _pieces(file):
                problem = "no readable bytes (the file claims more rows than it holds)"
                try:
                    for batch in file.iter_batches(16, row_groups=[group], columns=columns):
                        for value in batch.column(0).to_pylist()[: end - row]:
                            if entry := wanted.pop(f"{name}#{row}", None):
                                yield entry, _bytes_of(value), entry.problem
                            row += 1
                except Exception as e:  # damaged pages raise what they like
                    problem = f"no readable bytes ({first_line(e)})"
                while row < end:
                    if entry := wanted.pop(f"{name}#{row}", None):
                        yield entry, b"", problem
                    row += 1
            for missing in range(row, file.metadata.num_rows):
                if entry := wanted.pop(f"{name}#{missing}", None):
                    yield entry, b"", "no readable bytes (no piece of the file holds the row)"


def _are_names(names: Any) -> bool:
    """Whether these can name classes: strings, no two alike."""
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        return False
    return len(set(names)) == len(names) > 0


def _split_of(name: str) -> str | None:
    """The split that a file's folders or the start of its name say, or None."""
    path = PurePosixPath(name)
    stem = path.name.split("-")[0]
    if stem.lower().endswith(".parquet"):
        stem = stem[: -len(".parquet")]
    words = [*path.parts[:-1], stem]
    return next((w.lower() for w in words if w.lower() in SPLITS), None)


def _pieces(file: Any) -> Iterator[tuple[int, int, int]]:
    """(row group, its first row, the row after its last), as far as the file's counts can be so."""
    row, rows = 0, file.metadata.num_rows
    for group in range(file.num_row_groups):
        end = min(rows, row + max(0, file.metadata.row_group(group).num_rows))
        yield group, row, end
        row = end


class _Damaged(str):
    """Stands for a label that could not be read; says why."""


def _bytes_of(value: Any) -> bytes:
    return (value.get("bytes") if isinstance(value, dict) else value) or b""

