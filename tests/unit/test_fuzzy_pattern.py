"""The matcher of file searches: known scores, and the best alignment against trying them all."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.engine.services import fuzzy_pattern
from treadle.engine.services.fuzzy_pattern import (
    GAP_GOES_ON,
    GAP_START,
    IN_A_RUN,
    MATCH,
    WORD,
    parse,
)

# Scores that both reference versions give (0.169.0 adds a constant when only the name matches).
KNOWN = [
    ("abe", "abexy", 84),
    ("abe", "sub/abce", 72),
    ("abe", "abcde", 71),
    ("main", "src/lib/Main.rs", 109),
    ("ab", ".git/config_ab", 56),
    ("ab", "a b/c d.txt", 55),
    ("ab", "linkabba", 36),
    ("^src", "src/lib", 84),
    ("rs$", "src/main.rs", 56),
    ("a b", "xab/a/b", 68),
    ("src lib", "src/lib", 168),
    ("fb", "foo_bar.py", 53),
    ("fB", "FooBaz.txt", 51),
    ("cafe", "café.txt", 109),
    ("lib", "linkabba", 70),
    ("\\ ", "a b", 32),
    ("!rs", "lib", 0),
    ("'foo", "fooBar.py", 84),
    ("^src$", "src", 84),
]


@pytest.mark.parametrize(("query", "path", "score"), KNOWN)
def test_scores_are_those_that_clients_know(query: str, path: str, score: int) -> None:
    match = parse(query).match(path)
    assert match is not None
    assert match.score == score


@pytest.mark.parametrize(
    ("query", "path"),
    [("ba", "ab"), ("^b", "ab"), ("a$", "ab"), ("'ab", "a-b"), ("!a", "ba"), ("a !b", "ab")],
)
def test_what_does_not_fit_is_no_match(query: str, path: str) -> None:
    assert parse(query).match(path) is None


def brute_force(letters: str, path: str) -> int | None:
    """The best score over every way to place the letters."""
    text = fuzzy_pattern.fold(path)
    scores = [
        alignment(places, path)
        for places in combinations(range(len(text)), len(letters))
        if all(text[at] == letter for at, letter in zip(places, letters, strict=True))
    ]
    return max(scores, default=None)


def alignment(places: tuple[int, ...], path: str) -> int:
    bonus = carried = fuzzy_pattern._bonus(path, places[0])
    score = MATCH + 2 * bonus
    for before, at in pairwise(places):
        bonus = fuzzy_pattern._bonus(path, at)
        if at == before + 1:
            carried = max(carried, IN_A_RUN)
            if bonus >= WORD and bonus > carried:
                carried = bonus
            score += MATCH + max(carried, bonus)
        else:
            score += MATCH + bonus - GAP_START - GAP_GOES_ON * (at - before - 2)
            carried = bonus
    return score


@given(st.text("ab", min_size=1, max_size=3), st.text("abB/_ 1", max_size=9))
def test_a_match_is_found_when_there_is_one_and_spells_the_query(letters: str, path: str) -> None:
    match = parse(letters).match(path)
    best = brute_force(letters, path)
    assert (match is None) == (best is None)
    if match is not None and best is not None:
        assert "".join(fuzzy_pattern.fold(path)[at] for at in match.indices) == letters
        # A run's bonus is carried along the way taken, so the best way to a letter is kept and a
        # worse one with a better carry is lost: as in the references, at most that much.
        assert best - 2 * fuzzy_pattern.SEGMENT <= match.score <= best


@given(st.text(max_size=12), st.text(max_size=12))
def test_no_query_and_no_path_make_trouble(query: str, path: str) -> None:
    match = parse(query).match(path)
    if match is not None:
        assert match.score >= 0
        assert all(0 <= at < len(path) for at in match.indices)
