"""What a reproduced table is: a title, rows with their arguments, columns, the paper's values."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Table(NamedTuple):
    """A table to reproduce.

    rows {name: arguments of `cell`}, the columns measured, and the paper's values beside them.
    steps: how much goes into every cell, counted in `unit`.
    """

    title: str
    cell: Callable[..., dict[str, float]]
    steps: int
    columns: tuple[str, ...]
    rows: dict[str, dict[str, Any]]
    paper: dict[str, str]
    note: str
    unit: str = "training steps"
