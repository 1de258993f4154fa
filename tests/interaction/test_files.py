"""`fs/*` over the protocol: what is on disk afterwards, and what a client is told."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from treadle import InProcessOptions, InProcessServer, RpcError, ServerNotification


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[InProcessServer]:
    home = tmp_path / "home"
    home.mkdir()
    options = InProcessOptions(home=str(home), experimental=False)
    async with InProcessServer(options) as server:
        yield server


async def refused(server: InProcessServer, method: str, **params: object) -> tuple[int, str]:
    with pytest.raises(RpcError) as error:
        await server.request(method, params)
    return error.value.code, error.value.message


async def test_bytes_written_are_read_back_and_bad_base64_changes_nothing(
    server: InProcessServer, tmp_path: Path
) -> None:
    path = str(tmp_path / "data")
    text = base64.b64encode(b"\x00\xffab").decode()
    assert await server.request("fs/writeFile", {"path": path, "dataBase64": text}) == {}
    assert (tmp_path / "data").read_bytes() == b"\x00\xffab"
    assert await server.request("fs/readFile", {"path": path}) == {"dataBase64": text}
    for bad in ("@@", "aGk", "aGk=\n"):
        code, message = await refused(server, "fs/writeFile", path=path, dataBase64=bad)
        assert (code, "valid base64 dataBase64" in message) == (-32600, True)
    assert (tmp_path / "data").read_bytes() == b"\x00\xffab"


async def test_relative_paths_and_missing_files_are_told_in_the_known_words(
    server: InProcessServer, tmp_path: Path
) -> None:
    assert await refused(server, "fs/readFile", path="a") == (
        -32600,
        "Invalid request: AbsolutePathBuf deserialized without a base path",
    )
    missing = (-32603, "No such file or directory (os error 2)")
    assert await refused(server, "fs/readFile", path=str(tmp_path / "none")) == missing
    not_file = (-32600, f"path `{tmp_path}` is not a file")
    assert await refused(server, "fs/readFile", path=str(tmp_path)) == not_file


async def test_folders_are_made_listed_described_and_removed(
    server: InProcessServer, tmp_path: Path
) -> None:
    deep = tmp_path / "tree" / "sub"
    await server.request("fs/createDirectory", {"path": str(deep)})
    (tmp_path / "tree" / "f").write_text("x")
    listed = await server.request("fs/readDirectory", {"path": str(tmp_path / "tree")})
    assert listed["entries"] == [
        {"fileName": "f", "isDirectory": False, "isFile": True},
        {"fileName": "sub", "isDirectory": True, "isFile": False},
    ]
    told = await server.request("fs/getMetadata", {"path": str(deep)})
    assert (told["isDirectory"], told["isFile"], told["isSymlink"]) == (True, False, False)
    assert told["modifiedAtMs"] == deep.stat().st_mtime_ns // 1_000_000
    full = await refused(server, "fs/remove", path=str(tmp_path / "tree"), recursive=False)
    assert full == (-32603, "Directory not empty (os error 39)")
    for _ in range(2):
        await server.request("fs/remove", {"path": str(tmp_path / "tree")})
    assert not (tmp_path / "tree").exists()


async def test_a_file_copied_onto_itself_is_refused_and_loses_nothing(
    server: InProcessServer, tmp_path: Path
) -> None:
    source, hard, fresh = tmp_path / "a", tmp_path / "hard", tmp_path / "fresh"
    source.write_text("kept")
    os.link(source, hard)
    for same in (source, hard):
        code, _ = await refused(
            server, "fs/copy", sourcePath=str(source), destinationPath=str(same)
        )
        assert code == -32600
        assert source.read_text() == "kept"
    source.chmod(0o750)
    await server.request("fs/copy", {"sourcePath": str(source), "destinationPath": str(fresh)})
    assert (fresh.read_text(), fresh.stat().st_mode & 0o777) == ("kept", 0o750)


async def test_a_folder_is_not_copied_into_itself_nor_without_being_asked_to(
    server: InProcessServer, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    paths = {"sourcePath": str(tree), "destinationPath": str(tree / "sub" / "in")}
    assert (await refused(server, "fs/copy", **paths))[0] == -32600
    assert (await refused(server, "fs/copy", **paths, recursive=True))[0] == -32600
    paths["destinationPath"] = str(tmp_path / "other")
    await server.request("fs/copy", {**paths, "recursive": True})
    assert (tmp_path / "other" / "sub").is_dir()


async def changed(server: InProcessServer, path: Path) -> None:
    async with asyncio.timeout(5):
        while True:
            event = await server.next_event()
            assert isinstance(event, ServerNotification)
            if event.method == "fs/changed" and str(path) in event.params["changedPaths"]:
                return


async def test_each_atomic_replacement_of_a_watched_file_is_told(
    server: InProcessServer, tmp_path: Path
) -> None:
    path = tmp_path / "f"
    path.write_text("0")
    told = await server.request("fs/watch", {"path": str(path), "watchId": "w"})
    assert told == {"path": str(path)}
    assert await refused(server, "fs/watch", path=str(path), watchId="w") == (
        -32600,
        "watchId already exists: w",
    )
    for text in ("1", "2", "3"):
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(path)
        await changed(server, path)
    for _ in range(2):
        assert await server.request("fs/unwatch", {"watchId": "w"}) == {}
