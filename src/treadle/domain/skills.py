"""Skills: instructions for one kind of work that join a turn when they are named. Pure."""

import re
from collections.abc import Iterable

import msgspec

from treadle.domain.items import SkillInput, TextInput, UserInput

_NAMED = r"(?<![\w$\\])\$([A-Za-z0-9][\w:-]*)"


class Skill(msgspec.Struct, frozen=True):
    """One skill: what it is called, what it is for, and the file that has its text."""

    name: str
    description: str
    path: str


def named_skills(content: list[UserInput], known: Iterable[Skill]) -> list[Skill]:
    """The skills that an input names, each once: skill inputs, and `$name` in texts."""
    by_name = {skill.name: skill for skill in known}
    found: dict[str, Skill] = {}
    for part in content:
        if isinstance(part, SkillInput):
            found.setdefault(part.path, Skill(part.name, "", part.path))
        elif isinstance(part, TextInput):
            for name in re.findall(_NAMED, part.text):
                skill = by_name.get(name)
                if skill is not None:
                    found.setdefault(skill.path, skill)
    return list(found.values())
