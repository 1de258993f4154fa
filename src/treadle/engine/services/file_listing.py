"""The paths under search roots, as ignore files allow; grows while a thread walks.

`.ignore` files always count; `.gitignore` files and `.git/info/exclude` count inside a repository,
from its root down. `.git` itself is left out, hidden files are not, links are followed once.
Knows nothing of queries.
"""

import os
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

MAX_ENTRIES = 500_000
"""Paths of one listing; a larger tree is searched as far as that."""


class Entry(NamedTuple):
    """A file or folder under a root; `path` is relative to it, with slashes."""

    root: str
    path: str
    is_directory: bool


class Listing(msgspec.Struct):
    """What has been found so far; read by one thread while another walks."""

    roots: tuple[str, ...]
    entries: list[Entry] = msgspec.field(default_factory=list[Entry])
    complete: bool = False
    cancelled: bool = False

    def walk(self) -> None:
        """Fill `entries`; blocks, so it belongs on a thread of its own. Ends when cancelled."""
        try:
            for root in self.roots:
                if os.path.isabs(root):
                    _Walk(self, root).folder("", _rules_above(root), frozenset())
        finally:
            self.complete = True

    @property
    def stopped(self) -> bool:
        """Whether walking has no further use."""
        return self.cancelled or len(self.entries) >= MAX_ENTRIES


class _Rules(NamedTuple):
    """Ignore rules in force, outermost first: a folder's path and what its files say."""

    in_repository: bool
    specs: tuple[tuple[str, "GitIgnoreSpec"], ...]

    def ignore(self, path: str, *, is_directory: bool) -> bool:
        for base, spec in reversed(self.specs):
            relative = os.path.relpath(path, base) + ("/" if is_directory else "")
            verdict = spec.check_file(relative).include
            if verdict is not None:
                return verdict
        return False


class _Walk:
    def __init__(self, listing: Listing, root: str) -> None:
        self._listing = listing
        self._root = root

    def folder(self, relative: str, rules: _Rules, above: frozenset[tuple[int, int]]) -> None:
        """Add what is in one folder and below; `above` holds the folders on the way to it."""
        path = os.path.join(self._root, relative)
        try:
            found = os.stat(path)
            names = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError:
            return
        mark = (found.st_dev, found.st_ino)
        if mark in above:
            return
        rules = _with_rules_of(path, rules)
        for entry in names:
            if self._listing.stopped:
                return
            name = f"{relative}/{entry.name}" if relative else entry.name
            self._entry(entry, name, rules, above | {mark})

    def _entry(
        self,
        entry: "os.DirEntry[str]",
        relative: str,
        rules: _Rules,
        above: frozenset[tuple[int, int]],
    ) -> None:
        try:
            is_directory = entry.is_dir()
        except OSError:
            is_directory = False
        if entry.name == ".git" or rules.ignore(entry.path, is_directory=is_directory):
            return
        self._listing.entries.append(Entry(self._root, relative, is_directory))
        if is_directory:
            self.folder(relative, rules, above)


def _rules_above(root: str) -> _Rules:
    """The rules of the repository that `root` lies in, down to its parent."""
    chain = [root]
    while (parent := os.path.dirname(chain[-1])) != chain[-1]:
        chain.append(parent)
    above = chain[1:]
    repository = next((folder for folder in above if _is_repository(folder)), None)
    if repository is None:
        return _Rules(False, ())
    rules = _Rules(False, ())
    for folder in reversed(above[: above.index(repository) + 1]):
        rules = _with_rules_of(folder, rules)
    return rules


def _is_repository(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, ".git"))


def _with_rules_of(folder: str, rules: _Rules) -> _Rules:
    starts = _is_repository(folder)
    inside = rules.in_repository or starts
    files: list[str] = []
    if starts:
        files.append(os.path.join(".git", "info", "exclude"))
    if inside:
        files.append(".gitignore")
    files.append(".ignore")
    lines = [line for name in files for line in _lines(os.path.join(folder, name))]
    if not lines:
        return rules._replace(in_repository=inside)
    from pathspec import GitIgnoreSpec  # only searches in trees with ignore files need it

    return _Rules(inside, (*rules.specs, (folder, GitIgnoreSpec.from_lines(lines))))


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []
