"""`feedback/*`: an archive for the user to pass on; nothing leaves the machine."""

import hashlib
import json
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, LabClient
from treadle.wire.protocol.errors import INTERNAL, INVALID_REQUEST, RpcError


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


async def save(client: LabClient, path: Path | str, **params: Any) -> Any:
    asked = {"classification": "bug", "savePath": str(path), **params}
    return await client.request("feedback/save", asked)


async def refused(client: LabClient, path: Path | str, **params: Any) -> RpcError:
    with pytest.raises(RpcError) as raised:
        await save(client, path, **params)
    return raised.value


async def test_words_alone_make_a_private_archive_that_is_never_overwritten(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        path = tmp_path / "report.zip"
        saved = await save(client, path, reason="it broke", tags={"where": "here"})
        assert (saved["savedPath"], saved["promptHash"]) == (str(path), None)
        assert saved["threadId"].startswith("no-active-thread-")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        found = members(path)
        assert set(found) == {"report.json", "manifest.json"}
        report = json.loads(found["report.json"])
        assert (report["classification"], report["reason"]) == ("bug", "it broke")
        assert (report["tags"], report["threadId"]) == ({"where": "here"}, saved["threadId"])
        before = path.read_bytes()
        error = await refused(client, path)
        assert (error.code, "already exists" in error.message) == (INTERNAL, True)
        assert path.read_bytes() == before
        error = await refused(client, "report.zip")
        assert error.code == INVALID_REQUEST
        assert "must be an absolute" in error.message
        error = await refused(client, tmp_path / "no" / "folder.zip")
        assert error.code == INTERNAL
        assert str(tmp_path / "no" / "folder.zip") in error.message


async def test_logs_are_the_threads_file_the_setup_and_what_the_client_adds(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        session = await client.request("thread/start", {"baseInstructions": "Be  brief.\n\nNow."})
        thread_id = session["thread"]["id"]
        await lab.run_turn(client, thread_id, "hello")
        extra = tmp_path / "extra.log"
        extra.write_text("more")
        os.utime(extra, (0, 0))
        path = tmp_path / "report.zip"
        asked = {"threadId": thread_id, "includeLogs": True, "extraLogFiles": [str(extra)]}
        saved = await save(client, path, **asked)
        assert saved["threadId"] == thread_id
        assert saved["promptHash"] == hashlib.sha256(b"Be brief. Now.").hexdigest()
        found = members(path)
        entries = json.loads(found["manifest.json"])
        log = Path(session["thread"]["path"])
        names = ["treadle-doctor-report.json", log.name, "extra.log"]
        assert [entry["filename"] for entry in entries] == names
        doctor, kept, added = (found[entry["entry"]] for entry in entries)
        assert b'"findings"' in doctor
        assert kept == log.read_bytes()
        assert b"hello" in kept
        assert added == b"more"
        # A thread that left memory says the same.
        await client.request("thread/unsubscribe", {"threadId": thread_id})
        path = tmp_path / "again.zip"
        again = await save(client, path, threadId=thread_id, extraLogFiles=[str(extra)])
        assert again["promptHash"] == saved["promptHash"]
        [entry] = json.loads(members(path)["manifest.json"])
        assert entry["filename"] == "extra.log"


async def test_what_cannot_be_read_leaves_no_archive(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        path = tmp_path / "report.zip"
        missing = str(tmp_path / "missing.log")
        error = await refused(client, path, includeLogs=True, extraLogFiles=[missing])
        assert error.code == INTERNAL
        assert missing in error.message
        assert not path.exists()
        error = await refused(client, path, threadId="nope")
        assert "invalid thread id" in error.message


async def test_a_thread_of_a_store_without_files_is_told_by_its_records(tmp_path: Path):
    store = 'experimental_thread_store = { type = "in_memory", id = "feedback" }'
    async with AppLab(tmp_path, "memory", extra=store) as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id, "hello")
        path = tmp_path / "report.zip"
        await save(client, path, threadId=thread_id, includeLogs=True)
        [name] = [name for name in members(path) if name.endswith(".jsonl")]
        records = [json.loads(line) for line in members(path)[name].splitlines()]
        assert records[0]["kind"] == "thread_created"


async def test_nothing_is_sent_anywhere(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra="[feedback]\nenabled = true") as lab:
        client = await lab.connect()
        with pytest.raises(RpcError, match="feedback/save") as raised:
            await client.request("feedback/upload", {"classification": "bug"})
        assert raised.value.code == INTERNAL


async def test_feedback_can_be_switched_off(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra="[feedback]\nenabled = false") as lab:
        client = await lab.connect()
        error = await refused(client, tmp_path / "report.zip")
        assert "feedback.enabled" in error.message
        with pytest.raises(RpcError, match=r"feedback\.enabled"):
            await client.request("feedback/upload", {"classification": "bug"})
