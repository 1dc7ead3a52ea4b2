"""Parquet files of images, as the hubs store them: which column is the image, which the class, row by row."""

import json
from pathlib import PurePosixPath

from minigen.data.layout import SPLITS, Entry
from minigen.errors import DataError, first_line

IMAGE_NAMES = ("image", "img", "images", "jpg", "jpeg", "png", "webp", "photo", "picture", "pixels", "bytes")
LABEL_NAMES = ("label", "labels", "class")


class Parquet:
    """The rows of one or several parquet files as entries FILE#ROW, rows counted from 0.

    The image is a column of bytes, or of structs with a field `bytes`: the one that the hub's features or its name call
    an image, or the only one. The class is the column of classes in the features, or the one called label. A row whose
    label fits no class, or whose bytes cannot be read, is told by its number and left out.
    Raises: DataError for a file that is not parquet, and where the columns do not tell and were not named.
    """

    def __init__(self, root, names, image_column=None, label_column=None):
        try:
            import pyarrow
            import pyarrow.parquet as pq
        except ImportError:
            raise DataError("Reading parquet needs the package pyarrow: pip install \"minigen[parquet]\""
                            ", or pip install pyarrow.") from None
        self.types, self.files, self.notes = pyarrow.types, [], []
        self.asked = image_column, label_column
        for name in names:
            try:
                file = pq.ParquetFile(root / name)
                rows, size = file.metadata.num_rows, (root / name).stat().st_size
                if not 0 <= rows <= 100 * size:
                    raise ValueError(f"it claims {rows} rows in {size} bytes")
                columns = self._columns(name, file.schema_arrow)
            except DataError:
                raise
            except Exception as e:  # a damaged footer makes pyarrow raise what it likes
                raise DataError(f"'{name}' is not a whole parquet file ({first_line(e)}).") from None
            self.files.append((name, file))
            if len(self.files) == 1:
                self.image, self.label, self.class_names = first = columns
            if columns != first:
                raise DataError(f"'{name}' and '{names[0]}' have different columns or classes, so they are not parts of "
                                "one data set: pass them one at a time.")

    def _columns(self, name, schema):
        """(image column, label column or None, names of the classes or None)"""
        features = self._features(name, schema)

        def kind(column):
            told = features.get(column)
            return told.get("_type") if isinstance(told, dict) else None

        holding = [f.name for f in schema if self._holds_bytes(f.type)]
        if not holding:
            raise DataError(f"'{name}' has no column of image bytes; its columns are {', '.join(schema.names)}.")
        image = self._one_of(name, "image", self.asked[0], holding, [c for c in holding if kind(c) == "Image"] or holding,
                             IMAGE_NAMES)
        classes = [c for c in schema.names if kind(c) == "ClassLabel"]
        others = [c for c in schema.names if c not in holding]
        likely = classes or [c for c in others if c.lower() in LABEL_NAMES]
        label = None
        if self.asked[1] or likely:
            label = self._one_of(name, "label", self.asked[1], others, likely, LABEL_NAMES)
        names = features[label].get("names") if label and kind(label) == "ClassLabel" else None
        good = isinstance(names, list) and all(isinstance(n, str) for n in names) and len(set(names)) == len(names) > 0
        if names is not None and not good:
            self.notes.append(f"The names of the classes in '{name}' cannot be read; the labels stand for themselves.")
        return image, label, names if good else None

    def _features(self, name, schema):
        """What the hub's metadata says about each column."""
        told = (schema.metadata or {}).get(b"huggingface")
        if told is None:
            return {}
        try:
            return dict(json.loads(told)["info"]["features"])
        except (ValueError, KeyError, TypeError, RecursionError):
            self.notes.append(f"The metadata of '{name}' cannot be read; its columns are told by their names.")
            return {}

    def _holds_bytes(self, t):
        types = self.types

        def binary(t):
            return types.is_binary(t) or types.is_large_binary(t)

        return binary(t) or (types.is_struct(t) and any(f.name == "bytes" and binary(f.type) for f in t))

    def _one_of(self, name, what, asked, possible, likely, usual):
        if asked is not None:
            if asked not in possible:
                raise DataError(f"'{name}' has no {what} column '{asked}'; it could be {', '.join(possible) or 'none'}.")
            return asked
        named = [c for wanted in usual for c in likely if c.lower() == wanted]
        if named or len(likely) == 1:
            return (named or likely)[0]
        raise DataError(f"'{name}' has several columns that could be the {what} ({', '.join(likely)}): "
                        f"name one with --{what}-column.")

    def entries(self, use_classes, labels, split=None):
        found, values = [], []
        for name, file in self.files:
            path = PurePosixPath(name)
            stem = path.name.split("-")[0]
            words = [*path.parts[:-1], stem[: -len(".parquet")] if stem.lower().endswith(".parquet") else stem]
            split = next((w.lower() for w in words if w.lower() in SPLITS), None)
            found += [(f"{name}#{row}", split) for row in range(file.metadata.num_rows)]
            if self.label and use_classes and labels is None:
                values += self._labels(file)
        if labels is not None:
            entries = [Entry(n, labels.get(n), s, None if labels.get(n) else "has no label in the list") for n, s in found]
            if not any(e.label for e in entries):
                raise DataError("None of the rows stands in the list of labels; rows are called FILE.parquet#0, #1, …")
            return entries, self.notes
        if not values:
            return [Entry(n, None, s) for n, s in found], self.notes
        told = self._classes_of(values)
        mine = [k for k, (_, s) in enumerate(found) if split in (None, s)]
        if not any(told[k][0] for k in mine):             # in the split that is asked for
            reasons = {told[k][1] for k in mine} - {None, "has no label"}
            if reasons:
                raise DataError(f"Column '{self.label}' of '{self.files[0][0]}' gives no row a class (row 0 "
                                f"{told[0][1]}): name another with --label-column, or pass --classes none.")
            self.class_names = None
            return [Entry(n, None, s) for n, s in found], [*self.notes, f"No row has a label in column '{self.label}'."]
        notes = [*self.notes, f"Column '{self.label}' is taken as the class, column '{self.image}' as the image."]
        return [Entry(n, label, s, problem) for (n, s), (label, problem) in zip(found, told, strict=True)], notes

    def _labels(self, file):
        """The label of every row, a piece of the file at a time, so that damage in one leaves the others."""
        out = []
        for group, first, end in _pieces(file):
            try:
                out += file.read_row_group(group, columns=[self.label])[self.label].to_pylist()[: end - first]
            except Exception as e:  # damaged pages raise what they like
                out += [_Damaged(first_line(e))] * (end - len(out))
            out += [_Damaged("missing")] * (end - len(out))
        return out + [_Damaged("missing")] * (file.metadata.num_rows - len(out))

    def _classes_of(self, values):
        """(class or None, problem or None) of every label."""
        whole = {int(v) for v in values if isinstance(v, int) or (isinstance(v, float) and v.is_integer())}
        minus_means_none = bool(self.class_names) or not whole <= {-1, 1}
        return [self._class_of(v, minus_means_none) for v in values]

    def _class_of(self, value, minus_means_none):
        if isinstance(value, _Damaged):
            return None, f"has a label that cannot be read ({value})"
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None or value != value or (value == -1 and minus_means_none and not isinstance(value, bool)):
            return None, "has no label"
        if not isinstance(value, str | int):
            return None, f"has a label that names no class ({str(value)[:40]})"
        if not self.class_names or value in self.class_names:
            return (str(value), None) if value != "" else (None, "has no label")
        if isinstance(value, int) and 0 <= value < len(self.class_names):
            return self.class_names[value], None
        return None, f"has the label {value!r:.40}, which is none of the {len(self.class_names)} classes"

    def read(self, entries):
        wanted = {e.name: e for e in entries}
        for name, file in self.files:
            row = 0
            for group, _, end in _pieces(file):
                problem = "no readable bytes (the file claims more rows than it holds)"
                try:
                    for batch in file.iter_batches(batch_size=16, row_groups=[group], columns=[self.image]):
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


def _pieces(file):
    """(row group, its first row, the row after its last): as the file says, as far as that is possible."""
    row, rows = 0, file.metadata.num_rows
    for group in range(file.num_row_groups):
        end = min(rows, row + max(0, file.metadata.row_group(group).num_rows))
        yield group, row, end
        row = end


class _Damaged(str):
    """Stands for a label that could not be read; says why."""


def _bytes_of(value):
    return (value.get("bytes") if isinstance(value, dict) else value) or b""

