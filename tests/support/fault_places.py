"""The fault points that the source names, read from the source."""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "treadle"


@cache
def fault_places() -> Counter[str]:
    """How often each place is named."""
    found: Counter[str] = Counter()
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "reach(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "reach":
                (place,) = node.args
                assert isinstance(place, ast.Constant), f"{path}: a place is a fixed name"
                found[str(place.value)] += 1
    return found


def places_of(area: str) -> list[str]:
    """Names of an area's places, such as `runner`."""
    return sorted(name for name in fault_places() if name.startswith(f"{area}."))
