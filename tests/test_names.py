import pytest

from minigen.names import how_many, listed, near


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("sampel", ": did you mean 'sample'?"),
        ("SAMPLE", ": did you mean 'sample'?"),
        ("red", ": did you mean 'Red'?"),
        ("xyz", ""),
        ("", ""),
    ],
)
def test_the_near_name(word, said):
    assert near(word, ["fid", "sample", "Red"]) == said


def test_of_two_that_differ_in_case_the_first_is_named():
    assert near("cat", ["Cat", "CAT"]) == ": did you mean 'Cat'?"


def test_names_in_a_row():
    assert listed([]) == "" and listed(["a"]) == "a" and listed("ab") == "a or b"
    assert listed(["a", "b", "c"], last="and") == "a, b and c"
    many = listed([f"c{k}" for k in range(1000)])
    assert many.startswith("c0, c1, ") and many.endswith("c23, … (1,000 in all)")
    assert listed(map(str, range(24))).endswith("22 or 23")


def test_dashes_alone_make_no_option_near():
    options = ["--help", "--label", "--images"]
    assert near("--model", options) == ""
    assert near("-imges", options) == ": did you mean '--images'?"


def test_one_is_no_plural():
    assert [how_many(n, "file") for n in (0, 1, 2, 1000)] == [
        "0 files", "1 file", "2 files", "1,000 files"]
