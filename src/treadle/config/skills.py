"""Skills of the home folder: which there are, by the heads of their files.

A skill is a folder below `skills/` with a `SKILL.md` that begins with `name` and `description`
between two lines of dashes. Files that are not so are passed over. Texts are read when used.
"""

from pathlib import Path

from treadle.domain.skills import Skill

FILE_NAME = "SKILL.md"
MAX_SKILLS = 200
_HEAD_BYTES = 8192
_DESCRIPTION_CHARS = 400


def read_skills(home: Path) -> tuple[Skill, ...]:
    """The skills below `home`, by name; of two with one name the first by path."""
    found: dict[str, Skill] = {}
    folder = home / "skills"
    if not folder.is_dir():
        return ()
    files = sorted([*folder.glob(f"*/{FILE_NAME}"), *folder.glob(f"*/*/{FILE_NAME}")])
    for file in files[:MAX_SKILLS]:
        skill = _read(file)
        if skill is not None:
            found.setdefault(skill.name, skill)
    return tuple(found[name] for name in sorted(found))


def _read(file: Path) -> Skill | None:
    try:
        with file.open("rb") as opened:
            text = opened.read(_HEAD_BYTES).decode(errors="replace")
    except OSError:
        return None
    head = _head(text)
    name = head.get("name") or file.parent.name
    description = head.get("description", "")[:_DESCRIPTION_CHARS]
    return Skill(name, description, str(file)) if head else None


def _head(text: str) -> dict[str, str]:
    """The plain `key: value` lines of the front matter; empty without one."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    head: dict[str, str] = {}
    for line in lines[1:]:
        if line.strip() == "---":
            return head
        key, colon, value = line.partition(":")
        if colon and key == key.strip():
            head[key] = value.strip().strip("\"'")
    return {}
