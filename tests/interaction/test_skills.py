"""`skills/*`: what is listed for which folder, switched off for good, and told to the model."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, LabClient
from support.fake_provider import reply
from treadle.wire.protocol.errors import RpcError


def write(root: Path, name: str) -> str:
    path = root / name / "SKILL.md"
    path.parent.mkdir(parents=True)
    path.write_text(f"---\nname: {name}\ndescription: About {name}.\n---\nDo {name}.\n")
    return str(path)


async def listed(client: LabClient, **params: Any) -> list[dict[str, Any]]:
    return (await client.request("skills/list", params))["data"]


async def test_each_folder_has_the_skills_from_its_repository_down(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        (lab.work / ".git").mkdir()
        deep = lab.work / "sub" / "deep"
        deep.mkdir(parents=True)
        of_root = write(lab.work / ".agents" / "skills", "of-root")
        of_sub = write(lab.work / "sub" / ".codex" / "skills", "of-sub")
        of_home = write(lab.home / "skills", "of-home")
        client = await lab.connect()
        folders = [str(deep), str(lab.work), str(tmp_path)]
        entries = await listed(client, cwds=folders)
        assert [entry["cwd"] for entry in entries] == folders
        paths = [[skill["path"] for skill in entry["skills"]] for entry in entries]
        assert paths == [[of_root, of_sub, of_home], [of_root, of_home], [of_home]]
        assert entries[0]["skills"][0] == {
            "name": "of-root",
            "description": "About of-root.",
            "shortDescription": None,
            "path": of_root,
            "scope": "repo",
            "enabled": True,
            "pluginId": None,
        }


async def test_further_folders_are_looked_into_when_a_client_asks(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        extra = write(tmp_path / "extra", "more")
        client = await lab.connect()
        roots = [str(tmp_path / "extra")]
        [entry] = await listed(
            client,
            cwds=[str(lab.work)],
            perCwdExtraUserRoots=[{"cwd": str(lab.work), "extraUserRoots": roots}],
        )
        assert [skill["path"] for skill in entry["skills"]] == [extra]
        [entry] = await listed(client)
        assert entry["skills"] == []
        await client.request("skills/extraRoots/set", {"extraRoots": roots})
        assert await client.until("skills/changed") == {}
        [entry] = await listed(client)
        assert [skill["path"] for skill in entry["skills"]] == [extra]
        bad = [{"cwd": str(lab.work), "extraUserRoots": ["relative"]}]
        with pytest.raises(RpcError, match="must be absolute: relative"):
            await client.request("skills/list", {"perCwdExtraUserRoots": bad})


async def test_a_skill_is_switched_off_by_path_or_name_and_stays_so(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        path = write(lab.home / "skills", "mine")
        client = await lab.connect()

        async def enabled() -> bool:
            [entry] = await listed(client)
            return entry["skills"][0]["enabled"]

        for word in ({"path": path}, {"name": "mine"}):
            answer = await client.request("skills/config/write", {**word, "enabled": False})
            assert answer == {"effectiveEnabled": False}
            assert not await enabled()
            written = tomllib.loads((lab.home / "config.toml").read_text())
            assert written["skills"]["config"] == [{**word, "enabled": False}]
            await client.request("skills/config/write", {**word, "enabled": True})
            assert await enabled()
            assert "skills" not in tomllib.loads((lab.home / "config.toml").read_text())
        for bad in ({}, {"path": path, "name": "mine"}):
            with pytest.raises(RpcError, match="exactly one of path or name") as raised:
                await client.request("skills/config/write", {**bad, "enabled": False})
            assert raised.value.code == -32602


async def test_the_model_is_offered_what_is_on_and_gets_the_text_when_named(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        write(lab.work / ".agents" / "skills", "weave")
        write(lab.home / "skills", "idle")
        lab.provider.script(reply(), reply())
        client = await lab.connect()
        await client.request("skills/config/write", {"name": "idle", "enabled": False})
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id)
        first = json.dumps(lab.provider.requests[0].body)
        assert "About weave." in first
        assert "About idle." not in first
        assert "Do weave." not in first
        await lab.run_turn(client, thread_id, "please $weave")
        assert "Do weave." in json.dumps(lab.provider.requests[1].body)
