"""Which plain commands only read, and which delete without asking back. Pure.

Both lists are short on purpose. A reader that is missing here costs a question; a writer that
slipped in would cost files. What a sandbox enforces is not replaced by this.
"""

import os.path
import re
from collections.abc import Callable, Sequence

_READERS = """
    basename cat cd cmp comm cut df diff dirname du echo egrep expand expr false fgrep file fold
    grep head id join ls md5sum nl nproc od paste printf pwd readlink realpath rev seq sha1sum
    sha256sum stat strings tail tr true uname wc which whoami
"""
_WRITING_FLAGS = {
    "file": ("-C", "--compile"),
    "diff": ("--output",),
}
_FIND_ACTIONS = (
    "-exec",
    "-execdir",
    "-ok",
    "-okdir",
    "-delete",
    "-fls",
    "-fprint",
    "-fprint0",
    "-fprintf",
)
_GIT_READERS = frozenset({"status", "log", "show", "diff", "rev-parse", "ls-files", "blame"})
_GIT_RUNNERS = ("--output", "--ext-diff", "--textconv", "--open-files-in-pager", "-O", "--exec")
_WRAPPERS = frozenset({"sudo", "doas", "command", "nohup", "nice", "env", "time", "exec"})
_SED_PRINT = re.compile(r"(\d+|\$)(,(\d+|\$))?p")


def only_reads(command: Sequence[str]) -> bool:
    """Whether a plain command is known to change nothing."""
    if not command:
        return False
    name = command[0]
    check = _CHECKS.get(name)
    if check is not None:
        return check(command[1:])
    return name in _READERS.split() and not _has_flag(command[1:], _WRITING_FLAGS.get(name, ()))


def _has_flag(words: Sequence[str], flags: Sequence[str]) -> bool:
    return any(
        word == flag or word.startswith(f"{flag}=" if flag.startswith("--") else flag)
        for word in words
        for flag in flags
    )


def _find(words: Sequence[str]) -> bool:
    return not any(word in _FIND_ACTIONS for word in words)


def _rg(words: Sequence[str]) -> bool:
    return not _has_flag(words, ("--pre", "--hostname-bin", "--search-zip", "-z"))


def _sed(words: Sequence[str]) -> bool:
    return 2 <= len(words) <= 3 and words[0] == "-n" and bool(_SED_PRINT.fullmatch(words[1]))


def _date(words: Sequence[str]) -> bool:
    return all(word.startswith("+") or word in ("-u", "--utc", "-R", "-I") for word in words)


def _git(words: Sequence[str]) -> bool:
    return bool(words) and words[0] in _GIT_READERS and not _has_flag(words[1:], _GIT_RUNNERS)


_CHECKS: dict[str, Callable[[Sequence[str]], bool]] = {
    "date": _date,
    "find": _find,
    "rg": _rg,
    "sed": _sed,
    "git": _git,
}


def deletes_by_force(command: Sequence[str]) -> bool:
    """Whether a plain command removes files without asking back, as `rm -rf` does."""
    words = list(command)
    while words and (os.path.basename(words[0]) in _WRAPPERS or "=" in words[0]):
        words.pop(0)
        while words and words[0].startswith("-"):
            words.pop(0)
    if not words or os.path.basename(words[0]) != "rm":
        return False
    for word in words[1:]:
        if word == "--":
            return False
        if word == "--force" or (re.fullmatch(r"-[A-Za-z]+", word) and "f" in word):
            return True
    return False
