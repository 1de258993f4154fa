"""Whose run it is, as the guard remembers it."""

import pytest

from treadle.control.access import Scope
from treadle.control.db.journal import run_not_found
from treadle.control.faults import NotFound
from treadle.control.http.run_scopes import RunScopes


class Runs:
    """Runs that are there, and which of them were looked up."""

    def __init__(self, **there: Scope) -> None:
        self.there = there
        self.looked_up: list[str] = []

    async def find(self, run_id: str) -> Scope:
        self.looked_up.append(run_id)
        if run_id not in self.there:
            raise run_not_found()
        return self.there[run_id]


async def test_a_run_is_looked_up_once() -> None:
    runs = Runs(one=Scope("a", "p"), two=Scope("b"))
    scopes = RunScopes(runs.find)
    for _ in range(3):
        assert await scopes.of("one") == Scope("a", "p")
        assert await scopes.of("two") == Scope("b")
    assert runs.looked_up == ["one", "two"]


async def test_a_missing_run_is_looked_up_each_time_until_it_comes() -> None:
    runs = Runs()
    scopes = RunScopes(runs.find)
    for _ in range(2):
        with pytest.raises(NotFound):
            await scopes.of("late")
    runs.there["late"] = Scope("a")
    assert [await scopes.of("late") for _ in range(2)] == [Scope("a")] * 2
    assert runs.looked_up == ["late"] * 3


async def test_of_more_runs_than_are_remembered_the_one_asked_for_longest_ago_goes() -> None:
    runs = Runs(**{name: Scope(name) for name in "abc"})
    scopes = RunScopes(runs.find, remembered=2)
    for name in "abacab":
        assert await scopes.of(name) == Scope(name)
    assert runs.looked_up == ["a", "b", "c", "b"]
