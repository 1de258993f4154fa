"""Each fault point has a name of its own that begins with its area."""

import re

from support.fault_places import fault_places


def test_each_place_is_named_once():
    assert [name for name, count in fault_places().items() if count > 1] == []
    assert len(fault_places()) > 10


def test_a_place_says_area_part_and_moment():
    shape = re.compile(r"(appserver|control|engine|runner)(\.[a-z][a-z-]*){2}")
    assert [name for name in fault_places() if not shape.fullmatch(name)] == []
