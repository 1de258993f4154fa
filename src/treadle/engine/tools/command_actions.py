"""Reading a shell script for what it does: reads a file, lists files, searches, or unknown.

Only for people to see; nothing is decided by it. Whatever is not plainly one of the known readers
makes the whole script unknown: a wrong label is worse than none. Pure.
"""

import os.path
import re
import shlex
from collections.abc import Callable
from typing import Any

Action = dict[str, Any]

_SEPARATORS = {"&&", "||", ";", "|"}
_SHELL_SYNTAX = re.compile(r"[<>`(){}\n]|\$[({]|(?<!&)&(?!&)")
_FILTERS = {"wc", "head", "tail", "sort", "uniq", "cut", "tr", "column", "nl", "true", "less"}
_SED_PRINT = re.compile(r"\d+(,(\d+|\$))?p")
_VALUE_FLAGS = {
    "rg": {"-g", "--glob", "-t", "--type", "-A", "-B", "-C", "-m", "--max-count", "-e"},
    "grep": {"-A", "-B", "-C", "-m", "-e", "--include", "--exclude"},
    "ls": {"-I", "-w", "--ignore"},
    "head": {"-n", "-c"},
    "tail": {"-n", "-c"},
}


def command_actions(script: str, cwd: str) -> list[Action]:
    """What `script` does when run in `cwd`, one entry per recognised step."""
    unknown: list[Action] = [{"type": "unknown", "command": script}]
    words = _words(script)
    if words is None:
        return unknown
    actions: list[Action] = []
    for command, piped in _steps(words):
        if not command:
            return unknown
        if piped and command[0] in _FILTERS and not _names_file(command):
            continue
        if command[0] == "cd" and len(command) == 2:
            cwd = os.path.normpath(os.path.join(cwd, command[1]))
            continue
        action = _action(command, cwd)
        if action is None:
            return unknown
        actions.append(action)
    return actions or unknown


def _words(script: str) -> list[str] | None:
    """Words and separators of a script without any other shell syntax, else None."""
    lexer = shlex.shlex(script, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    if _SHELL_SYNTAX.search(_without_quoted(script)):
        return None
    try:
        return list(lexer)
    except ValueError:
        return None


def _without_quoted(script: str) -> str:
    return re.sub(r"'[^']*'|\"[^\"$`]*\"", "", script)


def _steps(words: list[str]) -> list[tuple[list[str], bool]]:
    """Commands, each with whether it reads what the one before wrote."""
    steps: list[tuple[list[str], bool]] = []
    current: list[str] = []
    piped = False
    for word in words:
        if word in _SEPARATORS:
            steps.append((current, piped))
            current, piped = [], word == "|"
        else:
            current.append(word)
    steps.append((current, piped))
    return steps


def _names_file(command: list[str]) -> bool:
    return command[0] in {"head", "tail", "nl", "less"} and bool(_operands(command))


def _operands(command: list[str]) -> list[str]:
    """Arguments that are neither flags nor values of flags."""
    takes_value = _VALUE_FLAGS.get(command[0], set[str]())
    operands: list[str] = []
    skip = False
    only_operands = False
    for word in command[1:]:
        if skip:
            skip = False
        elif only_operands or not word.startswith("-") or word == "-":
            operands.append(word)
        elif word == "--":
            only_operands = True
        else:
            skip = word in takes_value
    return operands


def _action(command: list[str], cwd: str) -> Action | None:
    reader = _READERS.get(command[0])
    return reader(command, shlex.join(command), cwd) if reader else None


def _read(path: str, text: str, cwd: str) -> Action:
    full = os.path.normpath(os.path.join(cwd, path))
    return {"type": "read", "command": text, "name": os.path.basename(full), "path": full}


def _read_last(command: list[str], text: str, cwd: str) -> Action | None:
    operands = _operands(command)
    return _read(operands[0], text, cwd) if len(operands) == 1 else None


def _sed(command: list[str], text: str, cwd: str) -> Action | None:
    if len(command) == 4 and command[1] == "-n" and _SED_PRINT.fullmatch(command[2]):
        return _read(command[3], text, cwd)
    return None


def _list(command: list[str], text: str, _cwd: str) -> Action | None:
    operands = _operands(command)
    return {"type": "listFiles", "command": text, "path": operands[0] if operands else None}


def _rg(command: list[str], text: str, cwd: str) -> Action | None:
    if "--files" in command:
        return _list(command, text, cwd)
    return _search(command, text, cwd)


def _search(command: list[str], text: str, _cwd: str) -> Action | None:
    operands = _operands(command)
    if "-e" in command[1:-1]:
        operands.insert(0, command[command.index("-e") + 1])
    if not operands:
        return None
    path = operands[1] if len(operands) > 1 else None
    return {"type": "search", "command": text, "query": operands[0], "path": path}


def _find(command: list[str], text: str, _cwd: str) -> Action | None:
    if {"-exec", "-execdir", "-delete", "-ok", "-fprint"} & set(command):
        return None
    path = command[1] if len(command) > 1 and not command[1].startswith("-") else None
    for flag in ("-name", "-iname", "-path", "-regex"):
        if flag in command[:-1]:
            query = command[command.index(flag) + 1]
            return {"type": "search", "command": text, "query": query, "path": path}
    return {"type": "listFiles", "command": text, "path": path}


def _git(command: list[str], text: str, cwd: str) -> Action | None:
    if command[1:2] == ["grep"]:
        return _search(["grep", *command[2:]], text, cwd)
    if command[1:2] == ["ls-files"]:
        return _list(["ls", *command[2:]], text, cwd)
    return None


_READERS: dict[str, Callable[[list[str], str, str], Action | None]] = {
    "cat": _read_last,
    "bat": _read_last,
    "nl": _read_last,
    "less": _read_last,
    "head": _read_last,
    "tail": _read_last,
    "sed": _sed,
    "ls": _list,
    "tree": _list,
    "rg": _rg,
    "grep": _search,
    "egrep": _search,
    "fgrep": _search,
    "find": _find,
    "git": _git,
}
