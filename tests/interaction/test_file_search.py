"""`fuzzyFileSearch*` over the protocol: ranking, ignore files, sessions and their ends."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from treadle import InProcessOptions, InProcessServer, RpcError, ServerNotification

UPDATED = "fuzzyFileSearch/sessionUpdated"
COMPLETED = "fuzzyFileSearch/sessionCompleted"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[InProcessServer]:
    home = tmp_path / "home"
    home.mkdir()
    async with InProcessServer(InProcessOptions(home=str(home))) as server:
        yield server


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return root


async def find(server: InProcessServer, query: str, *roots: Path | str, **more: Any) -> list[Any]:
    params = {"query": query, "roots": [str(root) for root in roots], **more}
    return (await server.request("fuzzyFileSearch", params))["files"]


async def heard(server: InProcessServer, method: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            event = await server.next_event()
            if isinstance(event, ServerNotification) and event.method == method:
                return event.params


async def test_the_best_files_come_first_with_what_matched(
    server: InProcessServer, tmp_path: Path
) -> None:
    root = tree(tmp_path / "work", "abc", "abcde", "abexy", "sub/abce")
    found = await find(server, "abe", root)
    assert [(file["path"], file["score"]) for file in found] == [
        ("abexy", 84),
        ("sub/abce", 72),
        ("abcde", 71),
    ]
    assert found[1] == {
        "root": str(root),
        "path": "sub/abce",
        "match_type": "file",
        "file_name": "abce",
        "score": 72,
        "indices": [4, 5, 7],
    }
    assert [file["match_type"] for file in await find(server, "sub$", root)] == ["directory"]
    assert await find(server, "", root) == []
    assert await find(server, "abe", "work", tmp_path / "none") == []


async def test_ignore_files_count_inside_a_repository_and_links_do_not_loop(
    server: InProcessServer, tmp_path: Path
) -> None:
    root = tree(tmp_path / "work", "kept.log", "out/dropped.log", "deep/a.log", "deep/own/b.log")
    (root / "deep" / "again").symlink_to(root)
    (root / ".gitignore").write_text("out/\n*.tmp\n/deep/own/*\n!/deep/own/b.log\n")
    (root / "deep" / ".gitignore").write_text("a.log\n")
    outside = {file["path"] for file in await find(server, ".log", root)}
    assert {"kept.log", "out/dropped.log", "deep/a.log"} <= outside
    assert "deep/again/kept.log" not in outside
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / ".git" / "inner.log").write_text("")
    inside = {file["path"] for file in await find(server, ".log", root)}
    assert inside == {"kept.log", "deep/own/b.log"}
    # The rules above a root count as well.
    assert {file["path"] for file in await find(server, ".log", root / "deep")} == {
        "own/b.log",
        "again/kept.log",  # another root, another path to it
    }


async def test_a_session_answers_each_query_from_one_listing(
    server: InProcessServer, tmp_path: Path
) -> None:
    root = tree(tmp_path / "work", *(f"many{number:03}.txt" for number in range(120)))
    await server.request("fuzzyFileSearch/sessionStart", {"sessionId": "s", "roots": [str(root)]})
    await server.request("fuzzyFileSearch/sessionUpdate", {"sessionId": "s", "query": "many"})
    assert (await heard(server, COMPLETED)) == {"sessionId": "s"}
    tree(root, "many077-later.txt")
    await server.request("fuzzyFileSearch/sessionUpdate", {"sessionId": "s", "query": "many077"})
    told = await heard(server, UPDATED)
    assert told["query"] == "many077"
    assert [file["path"] for file in told["files"]] == ["many077.txt"]
    await server.request("fuzzyFileSearch/sessionStop", {"sessionId": "s"})
    with pytest.raises(RpcError, match="session not found: s"):
        await server.request("fuzzyFileSearch/sessionUpdate", {"sessionId": "s", "query": "x"})


async def test_a_reused_token_ends_the_search_before(
    server: InProcessServer, tmp_path: Path
) -> None:
    root = tree(tmp_path / "work", "one.txt", "two.txt")
    questions = [find(server, query, root, cancellationToken="t") for query in ("one", "two")]
    async with asyncio.timeout(20):
        first, second = await asyncio.gather(*questions)
    assert [file["path"] for file in second] == ["two.txt"]
    assert [file["path"] for file in first] in ([], ["one.txt"])


async def test_a_session_needs_a_name_and_a_folder(server: InProcessServer) -> None:
    for session_id, roots, code, words in (
        ("", ["/"], -32600, "sessionId must not be empty"),
        ("s", [], -32603, "at least one search directory is required"),
    ):
        with pytest.raises(RpcError, match=words) as raised:
            await server.request(
                "fuzzyFileSearch/sessionStart", {"sessionId": session_id, "roots": roots}
            )
        assert raised.value.code == code
