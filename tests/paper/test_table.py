"""What a table is made of."""

from minigen.paper.table import Table
from tests.conftest import defaults


def test_a_table_counts_training_steps_unless_told():
    assert defaults(Table) == dict(unit="training steps")
    table = Table("Table 0", lambda seed, steps: {}, 5, ("loss",), {"a": {}}, {}, "A note.")
    assert table.unit == "training steps" and table.rows == {"a": {}} and table.steps == 5
