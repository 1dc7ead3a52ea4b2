import os

import pytest

from minigen.data.layout import Entry, arrange, is_hidden, labels_from, read_labels
from minigen.errors import DataError


def arranged(names, empty=(), **options):
    entries, notes = arrange("src", names, list(empty), **options)
    return [tuple(e[:3]) for e in entries], " ".join(notes)


def test_folders_are_classes_and_splits_lie_above_them():
    names = ["Training/cat/1.png", "testing/dog/2.png"]
    assert arranged(names)[0] == [(names[0], "cat", "training"), (names[1], "dog", "testing")]
    for split in ("train", "training", "val", "valid", "validation", "test", "testing", "eval"):
        assert arranged([f"{split}/a/1.png", f"{split}/b/1.png"])[0][0] == (
            f"{split}/a/1.png",
            "a",
            split,
        )


@pytest.mark.parametrize(
    "folders",
    [["00000", "00001"], ["00000", "01000", "02000"], ["00000", "00001", "00001", "00002"]],
)
def test_running_numbers_of_equally_full_folders_are_pieces_not_classes(folders):
    names = [f"{f}/img{k}.png" for k, f in enumerate(folders) for _ in range(1)]
    if folders.count("00001") == 2:  # the middle piece is fuller: these are classes
        assert {c for _, c, _ in arranged(names)[0]} == set(folders)
        return
    entries, note = arranged(names)
    assert {c for _, c, _ in entries} == {None} and "pieces of one set" in note
    assert {c for _, c, _ in arranged(names, use_classes="folders")[0]} == set(folders)


@pytest.mark.parametrize(
    "folders",
    [["0", "1", "10"], ["00", "01"], ["00001", "00003"], ["00000", "00002", "00003"], ["a", "b"]],
)
def test_other_names_are_classes_and_that_is_said(folders):
    entries, note = arranged([f"{f}/1.png" for f in folders])
    assert [c for _, c, _ in entries] == folders and "taken as classes" in note


def test_one_folder_for_all_is_no_class_unless_asked_for():
    names = ["img_align_celeba/img_align_celeba/1.jpg", "img_align_celeba/img_align_celeba/2.jpg"]
    entries, note = arranged(names)
    assert (
        {c for _, c, _ in entries} == {None}
        and "'img_align_celeba'" in note
        and "--classes folders" in note
    )
    assert {c for _, c, _ in arranged(names, use_classes="folders")[0]} == {"img_align_celeba"}
    assert arranged(names, use_classes=False) == ([(n, None, None) for n in names], "")


@pytest.mark.parametrize(
    ("names", "empty", "words"),
    [
        (["a/1.png", "2.png"], [], "others beside them .such as '2.png'"),
        (["train/a/1.png", "extra/1.png"], [], "split folder 'train' beside the folder 'extra'"),
        (["a/1.png", "b/1.png"], ["c"], "class folder 'c' .* holds no image"),
        (
            ["images/1.jpg", "annotations/1.xml"],
            [],
            "folder 'annotations' .* holds no image .*--classes none",
        ),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_way_out(names, empty, words):
    with pytest.raises(DataError, match=words):
        arrange("src", names, empty)
    arrange("src", names, empty, use_classes=False)


def test_labels_from_a_list_replace_the_folders():
    labels = {"x/1.png": "cat", "2.png": "dog"}
    entries, _ = arrange("src", ["top/x/1.png", "top/y/2.png", "top/y/3.png"], [], labels=labels)
    assert [e.label for e in entries] == ["cat", "dog", None] and entries[
        2
    ].problem == "has no label in the list"
    with pytest.raises(DataError, match=r"None of the files.*such as 'a.png'"):
        arrange("src", ["a.png"], [], labels=labels)


@pytest.mark.parametrize(
    ("content", "name", "want"),
    [
        (b"a.png,cat\nb.png,dog\n", "l.csv", {"a.png": "cat", "b.png": "dog"}),
        (b'{"a.png": "cat", "b.png": 3}', "l.json", {"a.png": "cat", "b.png": "3"}),
        (
            b'{"labels": [["00000/a.png", 6], ["b.png", 2.0]]}',
            "dataset.json",
            {"00000/a.png": "6", "b.png": "2"},
        ),
        (b'{"labels": [["a.png", [0, 0, 1]]]}', "dataset.json", {"a.png": "2"}),
        (b'{"labels": null}', "dataset.json", None),
        (b'\xef\xbb\xbf{"a.png": "cat"}', "l.json", {"a.png": "cat"}),
    ],
)
def test_lists_of_labels(content, name, want):
    assert read_labels(content, name) == want


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "l.csv"),
        (b"a.png\n", "l.csv"),
        (b"\xff\xfe\x00", "l.csv"),
        (b"{torn", "l.json"),
        (b"[1, 2]", "l.json"),
        (b'{"labels": 5}', "x.csv"),
        (b'{"a.png": [1, 2]}', "l.json"),
        (b'{"a.png": 0.5}', "l.json"),
        (b'{"a.png": {}}', "l.json"),
        (b'{"labels": [1]}', "dataset.json"),
        (b'{"labels": [["a", "b", "c"]]}', "dataset.json"),
        (b"[" * 9999, "l.json"),
    ],
)
def test_what_is_no_list_of_labels(content, name):
    with pytest.raises(DataError, match="is no list of labels"):
        read_labels(content, name)


def test_a_list_of_labels_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        labels_from(tmp_path / "none.csv")


def test_hidden_names():
    assert is_hidden("a/.b/c.png") and is_hidden("__MACOSX/a.png") and not is_hidden("a/b.png")
    assert Entry("a").problem is None


def test_without_classes_the_splits_stay():
    names = ["train/a/1.png", "val/b/2.png"]
    want = [(names[0], None, "train"), (names[1], None, "val")]
    assert arranged(names, use_classes=False)[0] == want
    pieces = ["train/00000/1.png", "train/00001/2.png", "val/00000/3.png"]
    assert arranged(pieces)[0] == [(n, None, n.split("/")[0]) for n in pieces]
    labels = {n: "x" for n in names}
    assert [tuple(e[:3]) for e in arrange("src", names, [], labels=labels)[0]] == [
        (n, "x", n.split("/")[0]) for n in names
    ]


def test_the_longest_name_in_a_list_counts_and_one_row_means_one_file():
    names = ["top/1.png", "top/b/1.png", "c/2.png", "d/2.png"]
    got, _ = arrange("src", names, [], labels={"1.png": "cat", "b/1.png": "dog", "2.png": "bird"})
    assert [e.label for e in got] == ["cat", "dog", None, None]
    assert [e.problem for e in got[2:]] == [
        "is one of several files that one row of the list could mean"
    ] * 2


@pytest.mark.parametrize(
    ("content", "name", "want"),
    [
        (b"file_name,split,label\na.png,train,cat\n", "l.csv", {"a.png": "cat"}),
        (b"label,image\ncat,a.png\n", "l.csv", {"a.png": "cat"}),
        (b"file,class\na.png,cat\n", "l.csv", {"a.png": "cat"}),
        (b"a.png,cat\na.png,cat\n", "l.csv", {"a.png": "cat"}),
    ],
)
def test_a_header_names_the_columns(content, name, want):
    assert read_labels(content, name) == want


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"a.png,cat\na.png,dog\n", "l.csv"),
        (b'{"a.png": "cat", "a.png": "dog"}', "l.json"),
        (b"a.png,train,cat\n", "l.csv"),
        (b"a.png,cat\nb.png\n", "l.csv"),
        (b'{"labels": [["a.png", 1], ["a.png", 2]]}', "dataset.json"),
    ],
)
def test_a_list_that_says_two_things_is_refused(content, name):
    with pytest.raises(DataError, match="is no list of labels"):
        read_labels(content, name)


def test_a_pipe_or_device_is_no_list_of_labels(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(DataError, match="an ordinary file"):
            labels_from(path)


def test_a_readme_beside_the_folders_decides_nothing():
    names = ["afhq/README.txt", "afhq/train/cat/1.png", "afhq/val/dog/2.png"]
    assert arranged(names)[0][1:] == [(names[1], "cat", "train"), (names[2], "dog", "val")]


def test_only_the_split_that_is_asked_for_must_make_sense():
    names = ["train/a/1.png", "train/b/1.png", "val/1.png"]
    assert arranged(names, split="train")[0] == [(names[0], "a", "train"), (names[1], "b", "train")]
    assert arranged(names[:2], empty=["test/a"], split="train")[0] == [
        (names[0], "a", "train"),
        (names[1], "b", "train"),
    ]


def test_a_class_may_be_called_train_where_that_is_said():
    names = ["car/1.png", "plane/1.png", "train/1.png"]
    assert [c for _, c, _ in arranged(names, use_classes="folders")[0]] == ["car", "plane", "train"]
