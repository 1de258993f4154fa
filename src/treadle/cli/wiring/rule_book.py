"""Command rules of the home and project folders, as the tools of a thread see them.

What a user allows for good holds at once for every thread of this process, and is written to the
home folder for the others.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from treadle.config.exec_rules import append_rule, read_rule_files
from treadle.config.settings import Config

if TYPE_CHECKING:
    from treadle.engine.tools.exec_policy import ExecPolicy, PrefixRule

logger = logging.getLogger(__name__)


class HomeRules:
    """Makes rule books; remembers what was allowed since the process began."""

    def __init__(self) -> None:
        """Begin without any."""
        self.allowed: list[PrefixRule] = []

    def book(self, config: Config) -> tuple["FileRules", tuple[str, ...]]:
        """The rules for a thread, and what is wrong with their files."""
        files, problems = read_rule_files(config)
        rules = _parse(files, problems) if files else ()
        for problem in problems:
            logger.warning(problem)
        return FileRules(config.home, rules, self.allowed), tuple(problems)


def _parse(files: list[tuple[Path, str]], problems: list[str]) -> "tuple[PrefixRule, ...]":
    from treadle.engine.tools.exec_policy import RuleError, parse_rules

    rules: list[PrefixRule] = []
    for path, text in files:
        try:
            rules += parse_rules(text)
        except RuleError as error:
            problems.append(f"ignored the rules in {path}: {error}")
    return tuple(rules)


class FileRules:
    """The rules of one thread."""

    def __init__(
        self, home: Path, rules: "tuple[PrefixRule, ...]", allowed: "list[PrefixRule]"
    ) -> None:
        """Hold `rules`, and what is `allowed` meanwhile by any thread."""
        self._home = home
        self._rules = rules
        self._allowed = allowed

    @property
    def policy(self) -> "ExecPolicy":
        """The rules of this moment."""
        from treadle.engine.tools.exec_policy import ExecPolicy

        return ExecPolicy((*self._rules, *self._allowed))

    def allow(self, prefix: Sequence[str]) -> None:
        """Allow a prefix from now on; raises OSError when it cannot be kept."""
        from treadle.engine.tools.exec_policy import PrefixRule, allow_line

        append_rule(self._home, allow_line(prefix))
        rule = PrefixRule(tuple((word,) for word in prefix))
        if rule not in self._allowed:
            self._allowed.append(rule)
