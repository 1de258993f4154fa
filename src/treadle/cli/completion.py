"""`treadle completion`: a script that completes commands and options in a shell."""

import argparse
import importlib
from pathlib import Path
from typing import Any, cast

SHELLS = ("bash", "zsh", "tcsh")
FOLDERS = frozenset({"DIR"})


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="treadle completion",
        description=__doc__,
        epilog='bash: eval "$(treadle completion bash)" in ~/.bashrc; '
        'zsh: treadle completion zsh > "${fpath[1]}/_treadle".',
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def run(arguments: list[str]) -> int:
    """Print the script; the exit code."""
    import shtab

    shell = build_parser().parse_args(arguments).shell
    print(shtab.complete(_whole_parser(), shell=shell))
    return 0


def _whole_parser() -> argparse.ArgumentParser:
    """All sub-commands under one parser, as `main` knows them one by one."""
    from treadle.cli.main import COMMANDS

    parser = argparse.ArgumentParser(prog="treadle")
    commands = parser.add_subparsers()
    for name, (module, text) in COMMANDS.items():
        commands.add_parser(name, help=text)
        whole = importlib.import_module(module).build_parser()
        _complete_paths(whole)
        commands.choices[name] = whole
    return parser


def _complete_paths(parser: argparse.ArgumentParser) -> None:
    import shtab

    # argparse has no public way to list what a parser takes.
    for action in parser._actions:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        choices: Any = action.choices
        if isinstance(choices, dict):
            for sub in cast("dict[str, argparse.ArgumentParser]", choices).values():
                _complete_paths(sub)
        elif action.type is Path:
            folder = action.metavar in FOLDERS
            setattr(action, "complete", shtab.DIRECTORY if folder else shtab.FILE)  # noqa: B010
