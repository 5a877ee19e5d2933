"""Parts of a detector's network that depend on its levels."""

import re
from collections.abc import Collection

_PART = re.compile(
    r"(?:detector\d*_)?(stage\d|sppf|(?:lateral|top_down|bottom_up|head|tower)_p\d)_"
)


def part_of(path: str) -> str | None:
    """Returns the part of the network that a variable belongs to, if it depends on the levels."""
    found = _PART.match(path)
    return found[1] if found else None


def parts_only_in(levels: Collection[str], others: Collection[str]) -> set[str]:
    """Returns the parts of a network with some levels that one with other levels lacks."""

    def parts(levels: Collection[str]) -> set[str]:
        numbers = sorted(int(level[1:]) for level in levels)
        stages = {f"stage{number}" for number in range(2, numbers[-1] + 1)} if numbers else set()
        return stages.union(
            (f"{kind}_p{number}" for kind in ("head", "tower") for number in numbers),
            (f"{kind}_p{number}" for kind in ("lateral", "bottom_up") for number in numbers[1:]),
            (f"top_down_p{number}" for number in numbers[:-1]),
        )

    top_differs = max(levels, default="") != max(others, default="")  # SPPF follows the top stage
    return (parts(levels) - parts(others)) | ({"sppf"} if top_differs else set())
