"""What people are shown of a script, with the labels of references 0.129.0 and 0.169.0."""

import pytest

from treadle.engine.tools.command_actions import command_actions


def read(command: str, path: str) -> dict[str, object]:
    return {"type": "read", "command": command, "name": path.rsplit("/", 1)[-1], "path": path}


def listed(command: str, path: str | None = None) -> dict[str, object]:
    return {"type": "listFiles", "command": command, "path": path}


def search(command: str, query: str | None, path: str | None = None) -> dict[str, object]:
    return {"type": "search", "command": command, "query": query, "path": path}


KNOWN: list[tuple[str, list[dict[str, object]]]] = [
    ("cat a.txt", [read("cat a.txt", "/w/a.txt")]),
    ("head -n 20 a.txt", [read("head -n 20 a.txt", "/w/a.txt")]),
    ("sed -n 1,20p src/a.txt", [read("sed -n '1,20p' src/a.txt", "/w/src/a.txt")]),
    ("awk '{print $1}' a.txt", [read("awk '{print $1}' a.txt", "/w/a.txt")]),
    ('cat "a b.txt"', [read("cat 'a b.txt'", "/w/a b.txt")]),
    ("cat a.txt | head -n 5", [read("cat a.txt", "/w/a.txt")]),
    ("cat a.txt | sed s/a/b/", [read("cat a.txt", "/w/a.txt")]),
    ("nl -ba a.txt | sed -n 1,20p", [read("nl -ba a.txt | sed -n 1,20p", "/w/a.txt")]),
    ("cd src && cat a.txt", [read("cat a.txt", "/w/src/a.txt")]),
    ("ls; cat a.txt", [listed("ls"), read("cat a.txt", "/w/a.txt")]),
    ("ls -la src/lib", [listed("ls -la src/lib", "lib")]),
    ("ls lib/src", [listed("ls lib/src", "lib")]),
    ("ls build", [listed("ls build", "build")]),
    ("tree -L 2", [listed("tree -L 2")]),
    ("true && ls", [listed("ls")]),
    ("ls || true", [listed("ls")]),
    ("echo hi && ls", [listed("ls")]),
    ("rg --files | head -n 50", [listed("rg --files")]),
    ("fd foo src", [search("fd foo src", "foo", "src")]),
    ("rg -n foo src/a.py", [search("rg -n foo src/a.py", "foo", "a.py")]),
    ("rg 'it'\"'\"'s' src", [search('rg "it\'s" src', "it's", "src")]),
    ("git grep foo", [search("git grep foo", "foo")]),
    ("find . -name '*.py' | xargs grep foo", [search("find . -name '*.py'", "*.py", ".")]),
    ("rg", [search("rg", None)]),
]

UNKNOWN = [
    *("python3 x.py", "ls && echo done", "cat a.txt > b.txt", "cat $HOME/a.txt", "ls $(pwd)"),
    *("ls &", "FOO=1 ls", "if true; then ls; fi", "find . -name x -exec rm {} +", "ls *.py"),
    *("cat ~/a.txt", "cat a.txt b.txt", "rg foo | xargs sed -i s/a/b/", "rg foo | xargs rm"),
    *("cat 'unclosed", "sed -n 1,20p", "git status", "cat"),
]


@pytest.mark.parametrize(("script", "actions"), KNOWN, ids=[script for script, _ in KNOWN])
def test_known_readers_are_told(script: str, actions: list[dict[str, object]]):
    assert command_actions(script, "/w") == actions


@pytest.mark.parametrize("script", UNKNOWN)
def test_anything_else_is_one_unknown_command(script: str):
    assert command_actions(script, "/w") == [{"type": "unknown", "command": script}]
