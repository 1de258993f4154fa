"""Reading a shell script strictly: only plain commands in a row, or nothing at all.

Decisions about safety rest on this, so whatever a shell might expand, redirect, substitute or run
in the background makes the script unreadable here. Pure.
"""

import re

Commands = tuple[tuple[str, ...], ...]

_MAGIC = frozenset("$`\\(){}<>*?[]#!~&|;\n'\" \t\r")
_BLANKS = " \t\r"
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_KEYWORDS = """
    if then else elif fi for while until do done case esac in function select time coproc
    eval exec source . alias trap
"""


def plain_commands(script: str) -> Commands | None:
    """The commands of a script joined by `&&`, `||`, `;`, `|` or line ends, as their words.

    None when there is anything else in it, or no command at all.
    """
    tokens = _tokens(script)
    if tokens is None:
        return None
    commands: list[tuple[str, ...]] = []
    current: list[str] = []
    for token in [*tokens, ";"]:
        if isinstance(token, _Word):
            current.append(str(token))
        elif current:
            commands.append(tuple(current))
            current = []
        elif token not in (";", "\n"):
            return None
    if tokens and not isinstance(tokens[-1], _Word) and tokens[-1] not in (";", "\n"):
        return None
    for command in commands:
        if command[0] in _KEYWORDS.split() or _ASSIGNMENT.match(command[0]):
            return None
    return tuple(commands) or None


class _Word(str):
    """A word, as opposed to an operator that is written the same."""

    __slots__ = ()


def _tokens(script: str) -> list[str] | None:
    tokens: list[str] = []
    position = 0
    while position < len(script):
        char = script[position]
        if char in _BLANKS:
            position += 1
        elif script[position : position + 2] in ("&&", "||"):
            tokens.append(script[position : position + 2])
            position += 2
        elif char in ";|\n":
            tokens.append(char)
            position += 1
        else:
            read = _word(script, position)
            if read is None:
                return None
            word, position = read
            tokens.append(_Word(word))
    return tokens


def _word(script: str, position: int) -> tuple[str, int] | None:
    """The word that begins here and where it ends; None when it is no plain one."""
    parts: list[str] = []
    begin = position
    while position < len(script):
        char = script[position]
        if char in "'\"":
            end = script.find(char, position + 1)
            text = script[position + 1 : end]
            if end < 0 or (char == '"' and set(text) & set("$`\\!")):
                return None
            parts.append(text)
            position = end + 1
        elif char not in _MAGIC:
            parts.append(char)
            position += 1
        else:
            break
    # Stopped by something that is neither a blank nor an operator, or without having moved.
    if position < len(script) and script[position] not in " \t\r;|&\n":
        return None
    return ("".join(parts), position) if position > begin else None


_SHELL = re.compile(r"(?:(?:/usr)?(?:/local)?/bin/)?(?:bash|zsh|sh|dash)")
"""A shell of the system; a file of that name elsewhere may be anything."""


def script_commands(argv: tuple[str, ...]) -> Commands | None:
    """The plain commands that a program with arguments comes to; looks inside `bash -lc`."""
    if not argv:
        return None
    if _SHELL.fullmatch(argv[0]):
        if len(argv) == 3 and argv[1] in ("-c", "-lc"):
            return plain_commands(argv[2])
        return None
    return (argv,)
