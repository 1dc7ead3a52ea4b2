import json

import pytest

from minigen.data import ImageSource, prepare
from minigen.errors import DataError
from tests.conftest import peer
from tests.test_sources import png


def hub(path, labels=None, classes=None, rows=None, image_first=True, features=None, **columns):
    """A parquet file as hubs write it.

    Images as structs, a column of labels, the features in its metadata.
    """
    pa, pq = peer("pyarrow"), peer("pyarrow.parquet")
    n = rows or len(labels)
    images = {"image": [{"bytes": png(i), "path": None} for i in range(n)]}
    data = images | columns if image_first else columns | images
    table = pa.table(data | ({} if labels is None else {"label": labels}))
    features = (
        features
        if features is not None
        else (
            {"label": {"names": classes, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
            if classes
            else None
        )
    )
    if features is not None:
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
    pq.write_table(table, path, row_group_size=2)
    return path


def labels_of(path, **options):
    return [(i.label, i.problem) for i in ImageSource(path, **options)]


CLASSES = ["female", "male"]


def test_labels_that_fit(tmp_path):
    got = labels_of(hub(tmp_path / "a.parquet", [1.0, 0.0], CLASSES))
    assert got == [("male", None), ("female", None)]
    assert labels_of(hub(tmp_path / "b.parquet", ["male", "female"], CLASSES)) == [
        ("male", None),
        ("female", None),
    ]
    assert labels_of(hub(tmp_path / "c.parquet", [True, False])) == [
        ("True", None),
        ("False", None),
    ]
    assert labels_of(hub(tmp_path / "d.parquet", [-1, 1])) == [
        ("-1", None),
        ("1", None),
    ]  # as CelebA's attributes


@pytest.mark.parametrize(
    ("labels", "row", "words"),
    [
        ([0, 1, 99], 2, "label 99, which is none of the 2 classes"),
        ([0, -1, 1], 1, "has no label"),
        ([None, 0, 1], 0, "has no label"),
        (["male", "other", "female"], 1, "label 'other'"),
        ([0.0, float("nan"), 1.0], 1, "has no label"),
        ([0.0, 1.0, 0.5], 2, "names no class (0.5)"),
    ],
)
def test_a_label_that_does_not_fit_is_told_by_its_row_and_the_others_stay(
    tmp_path, labels, row, words
):
    path = hub(tmp_path / "a.parquet", labels, CLASSES)
    got = labels_of(path)
    assert [k for k, (label, _) in enumerate(got) if label is None] == [row] and words in got[row][
        1
    ]
    manifest = prepare(path, tmp_path / "out", 16)
    assert [s["name"] for s in manifest["skipped"]] == [f"a.parquet#{row}"] and words in manifest[
        "skipped"
    ][0]["reason"]
    assert manifest["count"] == sum(manifest["class_counts"].values()) == 2


@pytest.mark.parametrize("labels", [["0", "1"], [0.5, 0.25], [[1], [2]], [7, 8]])
def test_labels_of_which_none_fits_are_an_error_with_two_ways_out(tmp_path, labels):
    path = hub(tmp_path / "a.parquet", labels, CLASSES)
    with pytest.raises(DataError, match=r"gives no row a class .*--label-column.*--classes none"):
        ImageSource(path)
    assert prepare(path, tmp_path / "out", 16, use_classes=False)["count"] == 2


def test_a_column_without_any_label_gives_no_classes_and_says_so(tmp_path):
    for k, labels in enumerate(([None, None], [-1, -1])):
        source = ImageSource(hub(tmp_path / f"{k}.parquet", labels, CLASSES))
        assert source.classes == [] and "No row has a label" in source.notes[-1]
        assert prepare(tmp_path / f"{k}.parquet", tmp_path / f"out{k}", 16)["count"] == 2


def test_minus_one_is_no_class_where_others_are_counted_from_zero(tmp_path):
    assert labels_of(hub(tmp_path / "a.parquet", [0, 1, -1]))[2] == (None, "has no label")


@pytest.mark.parametrize(
    "columns",
    [
        dict(mask=[b"m", b"m"]),
        dict(md5=[b"m", b"m"]),
        dict(mask=[{"bytes": b"m"}] * 2, thumbnail=[b"t"] * 2),
    ],
)
def test_the_image_column_is_found_whatever_stands_before_it(tmp_path, columns):
    assert (
        prepare(
            hub(tmp_path / "a.parquet", rows=2, image_first=False, **columns), tmp_path / "out", 16
        )["count"]
        == 2
    )


def test_columns_that_do_not_tell_are_asked_for(tmp_path):
    pa, pq = peer("pyarrow"), peer("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"left": [png(0)], "right": [png(1)], "kind": ["x"]}), path)
    with pytest.raises(
        DataError, match=r"several columns that could be the image .left, right.*--image-column"
    ):
        ImageSource(path)
    with pytest.raises(DataError, match="no image column 'up'; it could be left, right"):
        ImageSource(path, image_column="up")
    (item,) = ImageSource(path, image_column="right", label_column="kind")
    assert item.data == png(1) and item.label == "x"
    features = {c: {"_type": "ClassLabel", "names": ["u", "v"]} for c in ("one", "two")} | {
        "image": {"_type": "Image"}
    }
    path = hub(tmp_path / "b.parquet", rows=2, one=[0, 1], two=[1, 0], features=features)
    with pytest.raises(
        DataError, match=r"several columns that could be the label .one, two.*--label-column"
    ):
        ImageSource(path)
    assert labels_of(path, label_column="two") == [("v", None), ("u", None)]


@pytest.mark.parametrize(
    "features",
    [
        [],
        {"label": 5},
        {"label": {"_type": "ClassLabel", "names": "ab"}},
        {"label": {"_type": "ClassLabel", "names": ["a", "a"]}},
        {"label": None},
    ],
)
def test_strange_metadata_leave_the_labels_as_they_are(tmp_path, features):
    assert [
        label for label, _ in labels_of(hub(tmp_path / "a.parquet", [0, 1], features=features))
    ] == ["0", "1"]


def test_a_damaged_page_costs_its_rows_and_blames_the_source(tmp_path):
    path = hub(tmp_path / "a.parquet", [0, 1, 0, 1, 0, 1], CLASSES)
    content = bytearray(path.read_bytes())
    content[20:60] = bytes(40)  # in the first piece's images
    path.write_bytes(content)
    manifest = prepare(path, tmp_path / "out", 16)
    assert 4 <= manifest["count"] < 6 and {s["name"] for s in manifest["skipped"]} <= {
        "a.parquet#0",
        "a.parquet#1",
    }


def test_damage_among_the_labels_is_told(tmp_path, monkeypatch):
    pq = peer("pyarrow.parquet")
    path = hub(tmp_path / "a.parquet", [0, 1, 0, 1], CLASSES)
    whole = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, group, **kw: whole(self, group, **kw) if group else 1 / 0,
    )
    got = labels_of(path)
    assert [label for label, _ in got] == [
        None,
        None,
        "female",
        "male",
    ] and "cannot be read" in got[0][1]


def test_a_file_that_claims_too_much(tmp_path, monkeypatch):
    path = hub(tmp_path / "a.parquet", [0, 1], CLASSES)
    path.write_bytes(path.read_bytes()[:-9] + b"\0" * 9)
    with pytest.raises(DataError, match=r"'a.parquet' is not a whole parquet file"):
        ImageSource(path)
    with pytest.raises(DataError, match="not a whole parquet file"):
        (tmp_path / "b.parquet").write_bytes(b"PAR1PAR1")
        ImageSource(tmp_path / "b.parquet")


def test_any_case_of_the_suffix(tmp_path):
    hub(tmp_path / "TRAIN-0.PARQUET", [0, 1], CLASSES)
    assert (
        ImageSource(tmp_path).splits == ["train"]
        and len(ImageSource(tmp_path / "TRAIN-0.PARQUET")) == 2
    )


def test_labels_from_a_list(tmp_path):
    path = hub(tmp_path / "a.parquet", rows=2)
    (tmp_path / "l.csv").write_text("a.parquet#1,cat\n")
    assert labels_of(path, use_classes=tmp_path / "l.csv") == [
        (None, "has no label in the list"),
        ("cat", None),
    ]


def test_the_split_stands_in_the_name_or_the_folder(tmp_path):
    for k, name in enumerate(
        (
            "train.parquet",
            "Test-00000-of-00001.PARQUET",
            "val/0.parquet",
            "x/validation-1.parquet",
            "data.parquet",
        )
    ):
        path = tmp_path / str(k) / name
        path.parent.mkdir(parents=True)
        hub(path, [0, 1], CLASSES)
        want = [["train"], ["test"], ["val"], ["validation"], []][k]
        assert ImageSource(tmp_path / str(k)).splits == want


def test_a_split_without_labels_leaves_the_others_theirs(tmp_path):
    hub(tmp_path / "train.parquet", [1, 0], CLASSES)
    hub(tmp_path / "val.parquet", [-1, -1], CLASSES)
    none = (None, "has no label")
    assert labels_of(tmp_path) == [("male", None), ("female", None), none, none]
    assert labels_of(tmp_path, split="train") == [("male", None), ("female", None)]
    source = ImageSource(tmp_path, split="val")
    assert source.classes == [] and [i.problem for i in source] == [None, None]
