"""Skills: which there are for a working folder, by the heads of their files, and which are off.

A skill is a folder with a `SKILL.md` whose head, YAML between two lines of dashes, has a
description. Repositories keep theirs in `.agents/skills` and `.codex/skills` of any folder down to
the working folder; people in the same place below their home and in `skills` of the home folder,
where `.system` holds those that came with a program. Texts are read when they are used.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from treadle.config.layers import as_table, section
from treadle.config.store import ConfigStore
from treadle.domain.skills import Skill

FILE_NAME = "SKILL.md"
MAX_DESCRIPTION_CHARS = 1024
MAX_NAME_CHARS = 64
MAX_SKILLS = 500
"""Skills of one root; a larger tree is read as far as that."""
MAX_DEPTH = 6
_HEAD_BYTES = 16384
_REPOSITORY_FOLDERS = (".agents/skills", ".codex/skills")

Scope = Literal["repo", "user", "system"]


class FoundSkill(msgspec.Struct, frozen=True):
    """A skill, where it belongs, and whether it is switched on."""

    skill: Skill
    scope: Scope
    short_description: str | None
    enabled: bool = True


class SkillFault(msgspec.Struct, frozen=True):
    """A file that should be a skill, and why it is none."""

    path: str
    message: str


class SkillList(msgspec.Struct, frozen=True):
    """All skills for one working folder: of the repository first, of programs last."""

    found: tuple[FoundSkill, ...]
    faults: tuple[SkillFault, ...]

    @property
    def usable(self) -> tuple[Skill, ...]:
        """What a model is offered: switched on, and of equal names the nearest."""
        by_name: dict[str, Skill] = {}
        for entry in self.found:
            if entry.enabled:
                by_name.setdefault(entry.skill.name, entry.skill)
        return tuple(by_name[name] for name in sorted(by_name))


class _Head(msgspec.Struct, frozen=True):
    name: str
    description: str
    short_description: str | None


class SkillBook:
    """The skills of one process's users; heads are read again when their files changed."""

    def __init__(self, config: ConfigStore) -> None:
        """Read nothing yet."""
        self._config = config
        self._heads: dict[str, tuple[tuple[int, int], _Head | SkillFault]] = {}
        self.extra_roots: tuple[str, ...] = ()
        """Further folders of skills that a client named; they last as long as the process."""

    def read(self, cwd: str | None, extra_roots: Sequence[str] = ()) -> SkillList:
        """The skills for a working folder; `extra_roots` count for this call alone."""
        switches = self._switches(cwd)
        found: dict[str, FoundSkill] = {}
        faults: list[SkillFault] = []
        for scope, root in self._roots(cwd, (*self.extra_roots, *extra_roots)):
            for path in _files(root):
                head = self._head(path)
                if isinstance(head, SkillFault):
                    faults.append(head)
                    continue
                skill = Skill(head.name, head.description, path)
                enabled = switches.get(("path", path), switches.get(("name", head.name), True))
                found.setdefault(path, FoundSkill(skill, scope, head.short_description, enabled))
        return SkillList(tuple(found.values()), tuple(faults))

    def _roots(self, cwd: str | None, extra: Sequence[str]) -> Iterator[tuple[Scope, Path]]:
        for folder in _down_from_repository(cwd):
            for name in _REPOSITORY_FOLDERS:
                yield "repo", folder / name
        home = self._config.home / "skills"
        for root in (
            home,
            self._config.environment.user_home / ".agents/skills",
            *map(Path, extra),
        ):
            yield "user", root
        yield "system", home / ".system"

    def _switches(self, cwd: str | None) -> dict[tuple[str, str], bool]:
        """What `[[skills.config]]` says of paths and names; of two words the later one counts."""
        entries: Any = section(self._config.snapshot(cwd).table, "skills").get("config")
        return {
            (kind, entry[kind]): entry.get("enabled") is not False
            for entry in switch_entries(entries)
            for kind in ("path", "name")
            if isinstance(entry.get(kind), str)
        }

    def _head(self, path: str) -> _Head | SkillFault:
        try:
            found = os.stat(path)
        except OSError as error:
            return SkillFault(path, f"failed to read file: {error.strerror}")
        mark = (found.st_mtime_ns, found.st_size)
        known = self._heads.get(path)
        if known is None or known[0] != mark:
            if len(self._heads) >= 4 * MAX_SKILLS:
                self._heads.clear()
            known = self._heads[path] = (mark, _read(path))
        return known[1]


def switch_entries(entries: Any) -> list[dict[str, Any]]:
    """The tables in a `skills.config` value; whatever else it holds is passed over."""
    if not isinstance(entries, list):
        return []
    return [
        cast("dict[str, Any]", entry)
        for entry in cast("list[object]", entries)
        if isinstance(entry, dict)
    ]


def _down_from_repository(cwd: str | None) -> list[Path]:
    """The folders from a repository's root to `cwd`; outside of one `cwd` alone."""
    if cwd is None:
        return []
    here = Path(cwd)
    for folder in (here, *here.parents):
        if (folder / ".git").exists():
            inner = [parent for parent in here.parents if parent.is_relative_to(folder)]
            return [*reversed(inner), here]
    return [here]


def _files(root: Path) -> list[str]:
    """The skill files below `root`, by path; hidden folders are not looked into."""
    found: list[str] = []
    folders = [(str(root), 0)]
    while folders and len(found) < MAX_SKILLS:
        folder, depth = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if entry.name == FILE_NAME:
                found.append(entry.path)
            elif depth < MAX_DEPTH and not entry.name.startswith(".") and entry.is_dir():
                folders.append((entry.path, depth + 1))
    return sorted(found)


def _read(path: str) -> _Head | SkillFault:
    try:
        with open(path, "rb") as file:
            text = file.read(_HEAD_BYTES).decode(errors="replace")
    except OSError as error:
        return SkillFault(path, f"failed to read file: {error.strerror}")
    lines = text.splitlines()
    end = next((at for at, line in enumerate(lines[1:], 1) if line.strip() == "---"), 0)
    if not end or lines[0].strip() != "---":
        return SkillFault(path, "missing YAML frontmatter delimited by ---")
    return _checked(path, "\n".join(lines[1:end]))


def _checked(path: str, head: str) -> _Head | SkillFault:
    import yaml  # only homes with skills need it

    try:
        table = as_table(yaml.safe_load(head))
    except yaml.YAMLError as error:
        return SkillFault(path, f"invalid YAML: {' '.join(str(error).split())}")
    name = _line(table.get("name")) or os.path.basename(os.path.dirname(path))
    description = _line(table.get("description"))
    if not description:
        return SkillFault(path, "missing field `description`")
    for field, text, limit in (
        ("name", name, MAX_NAME_CHARS),
        ("description", description, MAX_DESCRIPTION_CHARS),
    ):
        if len(text) > limit:
            return SkillFault(
                path, f"invalid {field}: exceeds maximum length of {limit} characters"
            )
    short = _line(as_table(table.get("metadata")).get("short-description"))
    return _Head(name, description, short or None)


def _line(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""
