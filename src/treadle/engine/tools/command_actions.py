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
_SHELL_SYNTAX = re.compile(r"[<>`(){}\n$*?~\[]|(?<!&)&(?!&)")
_FILTERS = {
    "wc",
    "head",
    "tail",
    "sort",
    "uniq",
    "cut",
    "tr",
    "column",
    "nl",
    "less",
    "sed",
    "xargs",
}
"""What may follow a pipe without changing what the command before it does."""
_XARGS_READERS = {"cat", "grep", "rg", "head", "tail", "wc", "ls", "sed"}
_SED_PRINT = re.compile(r"\d+(,(\d+|\$))?p")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9+\-./:@\]_]+")
_DULL_FOLDERS = {"build", "dist", "node_modules", "src"}
"""Never shown as the last part of a path (0.129.0, 0.169.0)."""
_VALUE_FLAGS = {
    "rg": {"-g", "--glob", "-t", "--type", "-A", "-B", "-C", "-m", "--max-count", "-e"},
    "grep": {"-A", "-B", "-C", "-m", "-e", "--include", "--exclude"},
    "ls": {"-I", "-w", "--ignore"},
    "tree": {"-L", "-P", "-I"},
    "du": {"-d", "--max-depth", "-B"},
    "fd": {"-t", "--type", "-e", "--extension", "-d", "--max-depth", "-E", "--exclude"},
    "awk": {"-F", "-v"},
    "head": {"-n", "-c"},
    "tail": {"-n", "-c"},
}


def command_actions(script: str, cwd: str) -> list[Action]:
    """What `script` does when run in `cwd`, one entry per recognised step."""
    unknown: list[Action] = [{"type": "unknown", "command": script}]
    words = _words(script)
    if words is None:
        return unknown
    steps = _told(_steps(words))
    actions: list[Action] = []
    for command, piped in steps:
        if not command:
            return unknown
        if piped and _only_filters(command):
            continue
        if command[0] == "cd" and len(command) == 2:
            cwd = os.path.normpath(os.path.join(cwd, command[1]))
            continue
        action = _action(command, cwd)
        if action is None:
            return unknown
        actions.append(action)
    if len(actions) == 1 and _prints_lines(steps):
        actions[0]["command"] = " | ".join(" ".join(command) for command, _ in steps)
    return actions or unknown


def _told(steps: list[tuple[list[str], bool]]) -> list[tuple[list[str], bool]]:
    """Without steps that only say something first, or do nothing."""
    left = [step for step in steps if step[0] != ["true"]]
    while len(left) > 1 and left[0][0][:1] == ["echo"] and not left[1][1]:
        left = left[1:]
    return left


def _prints_lines(steps: list[tuple[list[str], bool]]) -> bool:
    """Whether it is one pipe with a `sed -n` that picks lines: shown whole."""
    one_pipe = len(steps) > 1 and all(piped for _, piped in steps[1:])
    return one_pipe and any(command[:2] == ["sed", "-n"] for command, _ in steps)


def _only_filters(command: list[str]) -> bool:
    name = command[0]
    if name == "sed":
        picks = command[1:2] == ["-n"] and bool(_SED_PRINT.fullmatch(command[-1]))
        return (picks and len(command) == 3) or (len(command) == 2 and command[1][0] != "-")
    if name == "xargs":
        inner = [word for word in command[1:] if not word.startswith("-")][:1]
        changes = inner == ["sed"] and "-n" not in command
        return bool(inner) and inner[0] in _XARGS_READERS and not changes
    return name in _FILTERS and not _names_file(command)


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
    return reader(command, " ".join(map(_quoted, command)), cwd) if reader else None


def _quoted(word: str) -> str:
    """A word as the references quote it: everything but the plainest."""
    if _PLAIN_WORD.fullmatch(word):
        return word
    if "'" in word and not re.search(r'["$`\\!]', word):
        return f'"{word}"'
    return shlex.quote(word + " ")[:-2] + "'"


def _shown(path: str) -> str:
    """The part of a path that says most."""
    parts = [part for part in path.rstrip("/").split("/") if part]
    telling = [part for part in parts if part not in _DULL_FOLDERS]
    return telling[-1] if telling else path


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
    return {"type": "listFiles", "command": text, "path": _shown(operands[0]) if operands else None}


def _rg(command: list[str], text: str, cwd: str) -> Action | None:
    if "--files" in command:
        return _list(command, text, cwd)
    return _search(command, text, cwd)


def _search(command: list[str], text: str, _cwd: str) -> Action | None:
    operands = _operands(command)
    if "-e" in command[1:-1]:
        operands.insert(0, command[command.index("-e") + 1])
    query = operands[0] if operands else None
    path = _shown(operands[1]) if len(operands) > 1 else None
    return {"type": "search", "command": text, "query": query, "path": path}


def _fd(command: list[str], text: str, cwd: str) -> Action | None:
    return (_search if _operands(command) else _list)(command, text, cwd)


def _awk(command: list[str], text: str, cwd: str) -> Action | None:
    operands = _operands(command)
    return _read(operands[1], text, cwd) if len(operands) == 2 else None


def _find(command: list[str], text: str, _cwd: str) -> Action | None:
    if {"-exec", "-execdir", "-delete", "-ok", "-fprint"} & set(command):
        return None
    given = command[1] if len(command) > 1 and not command[1].startswith("-") else None
    path = _shown(given) if given else None
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
    "awk": _awk,
    "ls": _list,
    "eza": _list,
    "exa": _list,
    "tree": _list,
    "du": _list,
    "fd": _fd,
    "ag": _search,
    "ack": _search,
    "pt": _search,
    "rg": _rg,
    "grep": _search,
    "egrep": _search,
    "fgrep": _search,
    "find": _find,
    "git": _git,
}
