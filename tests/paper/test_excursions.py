"""The excursions' tables as they are defined."""

from minigen.paper import excursions, straight
from minigen.paper.tables import TABLES


def test_they_are_among_the_tables_and_claim_nothing_of_the_paper():
    assert list(excursions.TABLES) == [
        "flow", "likelihoods", "sentences", "prompting", "restoration", "distortion",
        "personal", "forgotten"]
    for name, table in excursions.TABLES.items():
        assert TABLES[name] is table and not table.paper
        assert "The paper has no such table." in table.note and "Excursion" in table.title


def test_shares_have_three_digits_and_distances_of_steps_none():
    assert {excursions.DIGITS[name] for name in straight.STEPS} == {0}
    three = (*excursions.SHARES, "bits", "ssim", "lpips")
    assert {excursions.DIGITS[name] for name in three} == {3}


def test_guidance_goes_from_none_to_eight():
    scales = [row["scale"] for row in excursions.TABLES["prompting"].rows.values()]
    assert scales == [0, 1, 1.5, 2, 3, 5, 8]
    assert [f"scale {s:g}" for s in scales] == list(excursions.TABLES["prompting"].rows)
