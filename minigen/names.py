"""Names that a person typed: what to say where there is no such thing, but perhaps a near one."""

import difflib
from collections.abc import Iterable

MOST = 24


def near(word: str, known: Iterable[str]) -> str:
    """`: did you mean 'sample'?`, or nothing where no known name is near `word`.

    What all options have in common, their dashes, does not make them near.
    """
    by_small = {name.lower().lstrip("-"): name for name in reversed(list(known))}
    found = difflib.get_close_matches(word.lower().lstrip("-"), by_small, n=1)
    return f": did you mean '{by_small[found[0]]}'?" if found else ""


def listed(names: Iterable[str], last: str = "or") -> str:
    """`black, red or grey`; of very many the first ones and how many there are."""
    names = list(names)
    if len(names) > MOST:
        return f"{', '.join(names[:MOST])}, … ({len(names):,} in all)"
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def how_many(n: int, what: str) -> str:
    """`1 image`, `1,000 images`."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
