"""Rules about command prefixes: allow, prompt, forbidden. Parsing and matching, pure.

The files look like Starlark and hold nothing but calls of `prefix_rule` (references 0.129.0,
0.169.0); they are read as data and never run. Where they lie is the configuration's business.
"""

import ast
import os.path
from collections.abc import Sequence
from typing import Any, Literal, cast

import msgspec

Verdict = Literal["allow", "prompt", "forbidden"]

_SEVERITY: dict[Verdict, int] = {"allow": 0, "prompt": 1, "forbidden": 2}
_IGNORED_ARGUMENTS = frozenset({"match", "not_match"})


class RuleError(Exception):
    """A file of rules cannot be used; the text says why and in which line."""


class PrefixRule(msgspec.Struct, frozen=True):
    """Commands that begin with these words; each place may offer several."""

    pattern: tuple[tuple[str, ...], ...]
    verdict: Verdict = "allow"
    justification: str | None = None

    def matches(self, command: Sequence[str]) -> bool:
        """Whether a command begins with the pattern; its program may be named by a path."""
        if len(command) < len(self.pattern):
            return False
        pairs = zip(self.pattern, command, strict=False)
        return all(
            word in choices or (place == 0 and _system_program(word) in choices)
            for place, (choices, word) in enumerate(pairs)
        )


_SYSTEM_FOLDERS = frozenset({"/bin", "/usr/bin", "/usr/local/bin", "/sbin", "/usr/sbin"})


def _system_program(word: str) -> str | None:
    """The name of a program of the system; any other file of that name is another program."""
    folder, name = os.path.split(word)
    return name if folder in _SYSTEM_FOLDERS else None


class ExecPolicy(msgspec.Struct, frozen=True):
    """All rules in force."""

    rules: tuple[PrefixRule, ...] = ()

    def judge(self, command: Sequence[str]) -> PrefixRule | None:
        """The strictest rule that matches a command; None when none does."""
        matching = [rule for rule in self.rules if rule.matches(command)]
        return max(matching, key=lambda rule: _SEVERITY[rule.verdict], default=None)

    def with_rule(self, rule: PrefixRule) -> "ExecPolicy":
        """The same with one more rule."""
        return ExecPolicy((*self.rules, rule))


def strictest(rules: Sequence[PrefixRule]) -> PrefixRule | None:
    """The strictest of some rules; None of none."""
    return max(rules, key=lambda rule: _SEVERITY[rule.verdict], default=None)


def allow_line(prefix: Sequence[str]) -> str:
    """The line of a file that allows a prefix."""
    words = ", ".join(msgspec.json.encode(word).decode() for word in prefix)
    return f'prefix_rule(pattern=[{words}], decision="allow")'


def parse_rules(text: str) -> tuple[PrefixRule, ...]:
    """The rules in a file's text.

    Raises:
        RuleError: it holds anything else than well-formed calls of `prefix_rule`.
    """
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise RuleError(f"line {line or 1}: not a list of prefix_rule(...) calls") from error
    return tuple(_rule(statement) for statement in module.body)


def _rule(statement: ast.stmt) -> PrefixRule:
    call = statement.value if isinstance(statement, ast.Expr) else None
    where = f"line {statement.lineno}"
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise RuleError(f"{where}: only prefix_rule(...) calls are understood")
    if call.func.id != "prefix_rule":
        raise RuleError(f"{where}: `{call.func.id}` is not known; use prefix_rule")
    if call.args or any(word.arg is None for word in call.keywords):
        raise RuleError(f"{where}: prefix_rule takes named arguments only")
    given = {str(word.arg): _value(word.value, where) for word in call.keywords}
    unknown = set(given) - {"pattern", "decision", "justification"} - _IGNORED_ARGUMENTS
    if unknown:
        raise RuleError(f"{where}: prefix_rule has no argument `{min(unknown)}`")
    verdict = given.get("decision", "allow")
    if verdict not in _SEVERITY:
        raise RuleError(f"{where}: decision must be allow, prompt or forbidden")
    justification = given.get("justification")
    if justification is not None and not isinstance(justification, str):
        raise RuleError(f"{where}: justification must be a text")
    return PrefixRule(_pattern(given.get("pattern"), where), verdict, justification)


def _value(node: ast.expr, where: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise RuleError(f"{where}: only plain texts and lists are understood") from error


def _pattern(value: Any, where: str) -> tuple[tuple[str, ...], ...]:
    if not isinstance(value, list) or not value:
        raise RuleError(f"{where}: pattern must be a list of words that is not empty")
    return tuple(_place(place, where) for place in cast("list[Any]", value))


def _place(place: Any, where: str) -> tuple[str, ...]:
    words: list[Any] = cast("list[Any]", place) if isinstance(place, list) else [place]
    if not words or not all(isinstance(word, str) and word for word in words):
        raise RuleError(f"{where}: a place of the pattern is a word or a list of words")
    return tuple(cast("list[str]", words))
