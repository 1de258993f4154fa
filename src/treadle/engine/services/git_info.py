"""What a folder's git repository is at: commit, branch and origin, without running git.

Reads the few plain files that say so. Anything unusual (no repository, a detached head, a broken
file) gives less information, never an error.
"""

from pathlib import Path
from typing import Any


def read_git_info(cwd: str) -> dict[str, Any] | None:
    """`{sha, branch, originUrl}` of the repository that `cwd` lies in, or None."""
    git = _git_folder(Path(cwd))
    if git is None:
        return None
    try:
        head = (git / "HEAD").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    name = head.removeprefix("ref: ") if head.startswith("ref: ") else None
    commit = _resolve(git, name) if name else head
    branch = name.removeprefix("refs/heads/") if name else None
    return {"sha": commit, "branch": branch, "originUrl": _origin(git)}


def _git_folder(start: Path) -> Path | None:
    for folder in (start, *start.parents):
        candidate = folder / ".git"
        if candidate.is_dir():
            return candidate
        if candidate.is_file():  # a worktree or submodule: the file names the real folder
            try:
                text = candidate.read_text(encoding="utf-8", errors="replace").strip()
            except OSError:
                return None
            target = Path(text.removeprefix("gitdir:").strip())
            return target if target.is_absolute() else folder / target
    return None


def _common(git: Path) -> Path:
    """The folder that worktrees share."""
    try:
        shared = (git / "commondir").read_text(encoding="utf-8").strip()
    except OSError:
        return git
    return git / shared


def _resolve(git: Path, name: str) -> str | None:
    for folder in (git, _common(git)):
        try:
            return (folder / name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
    try:
        packed = (_common(git) / "packed-refs").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in packed.splitlines():
        commit, _, ref = line.partition(" ")
        if ref == name:
            return commit
    return None


def _origin(git: Path) -> str | None:
    import configparser

    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    try:
        text = (_common(git) / "config").read_text(encoding="utf-8", errors="replace")
        parser.read_string("\n".join(line.lstrip() for line in text.splitlines()))
    except (OSError, configparser.Error):
        return None
    return parser.get('remote "origin"', "url", fallback=None)
