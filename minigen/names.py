"""Names that a person typed: what to say where there is no such thing, but perhaps a near one."""

import difflib
from collections.abc import Iterable

MOST = 20


def near(word: str, known: Iterable[str]) -> str:
    """`: did you mean 'sample'?`, or nothing where no known name is near `word`."""
    by_small = {name.lower(): name for name in reversed(list(known))}
    found = difflib.get_close_matches(word.lower(), by_small, n=1)
    return f": did you mean '{by_small[found[0]]}'?" if found else ""


def listed(names: Iterable[str], last: str = "or") -> str:
    """`black, red or grey`; of very many the first ones and how many there are."""
    names = list(names)
    if len(names) > MOST:
        return f"{', '.join(names[:MOST])}, … ({len(names):,} in all)"
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
