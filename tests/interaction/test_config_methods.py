import json
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, Kind
from treadle.wire.protocol.errors import INVALID_REQUEST, RpcError

BOTH = pytest.mark.parametrize("kind", ["memory", "stdio"])


def edit(key: str, value: object, strategy: str = "replace") -> dict[str, object]:
    return {"keyPath": key, "value": value, "mergeStrategy": strategy}


@BOTH
async def test_the_configuration_in_force_is_read_with_its_origins(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        result = await client.call("config/read", {"includeLayers": True})
        assert result.config["model"] == "mock-model"
        assert result.config["approval_policy"] == "never"
        origin = result.origins["model"]["name"]
        assert origin["file"] == str(lab.home / "config.toml")
        assert result.layers


@BOTH
async def test_a_written_value_is_read_back_and_stands_in_the_file(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        written = await client.request("config/value/write", edit("model", "new-model"))
        assert written["status"] == "ok"
        assert (await client.request("config/read", {}))["config"]["model"] == "new-model"
        text = (lab.home / "config.toml").read_text()
        assert 'model = "new-model"' in text
        assert "mock-model" not in text
        assert "[model_providers.mock_provider]" in text
        session = await client.request("thread/start", {})
        assert session["model"] == "new-model"


async def test_several_changes_are_made_together(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        changes = [edit("model", "a-model"), edit("approval_policy", "on-request")]
        await client.request("config/batchWrite", {"edits": changes})
        config = (await client.request("config/read", {}))["config"]
        assert (config["model"], config["approval_policy"]) == ("a-model", "on-request")


async def test_a_change_that_is_refused_changes_nothing(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        before = (lab.home / "config.toml").read_text()
        changes = [edit("model", "a-model"), edit("approval_policy", "whenever")]
        with pytest.raises(RpcError) as raised:
            await client.request("config/batchWrite", {"edits": changes})
        assert raised.value.code == INVALID_REQUEST
        assert raised.value.data == {"config_write_error_code": "configValidationError"}
        assert (lab.home / "config.toml").read_text() == before


async def test_a_write_on_an_old_version_is_a_conflict(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        first = await client.request("config/value/write", edit("model", "one"))
        await client.request("config/value/write", edit("model", "two"))
        late = {**edit("model", "three"), "expectedVersion": first["version"]}
        with pytest.raises(RpcError) as raised:
            await client.request("config/value/write", late)
        assert raised.value.data == {"config_write_error_code": "configVersionConflict"}
        assert (await client.request("config/read", {}))["config"]["model"] == "two"


async def test_writes_that_come_together_all_happen(tmp_path: Path):
    """They share one lane, so none works on a file that another one is changing."""
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        frames: list[bytes] = []
        for number in range(20):
            key = f"model_providers.p{number}.name"
            frames.append(
                b'{"id":"w%d","method":"config/value/write","params":'
                b'{"keyPath":"%b","value":"n","mergeStrategy":"upsert"}}' % (number, key.encode())
            )
        await client.tap.send(frames)
        answers = await client.tap.until_answered([f"w{number}" for number in range(20)])
        assert [a for a in answers.values() if "error" in a] == []
        providers = (await client.request("config/read", {}))["config"]["model_providers"]
        assert {f"p{number}" for number in range(20)} <= set(providers)


@pytest.mark.parametrize("value", ["overwrite", 7])
async def test_a_merge_strategy_that_does_not_exist_is_refused(tmp_path: Path, value: object):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        wrong = {"keyPath": "model", "value": "x", "mergeStrategy": value}
        with pytest.raises(RpcError, match=r"^Invalid request: ") as raised:
            await client.request("config/value/write", wrong)
        assert raised.value.code == INVALID_REQUEST


async def test_requirements_are_null_without_an_administrator(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        for params in (None, {}):
            result = await client.request("configRequirements/read", params)
            assert result["requirements"] is None
        with pytest.raises(RpcError, match="expected unit"):
            await client.request("configRequirements/read", {"unasked": 1})


async def test_models_are_paged(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        everything = await client.call("model/list", {})
        assert len(everything.data) > 1
        assert everything.next_cursor is None
        got: list[str] = []
        cursor = None
        while True:
            page = await client.call("model/list", {"limit": 1, "cursor": cursor})
            got += [model["id"] for model in page.data]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert got == [model["id"] for model in everything.data]
        with pytest.raises(RpcError, match="invalid cursor: x"):
            await client.request("model/list", {"cursor": "x"})


async def test_hidden_models_are_listed_on_request_only(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        shown = {m["id"] for m in (await client.request("model/list", {}))["data"]}
        every = (await client.request("model/list", {"includeHidden": True}))["data"]
        assert shown == {m["id"] for m in every if not m["hidden"]}


@pytest.mark.parametrize("params", [None, {}, {"refreshToken": False}])
async def test_a_provider_of_ones_own_needs_no_account(tmp_path: Path, params: Any):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        result = await client.call("account/read", params)
        assert (result.account, result.requires_openai_auth) == (None, False)


async def test_features_are_listed_with_what_is_obeyed_first(tmp_path: Path):
    extra = "[features]\nunified_exec = false\nmemories = true\n"
    async with AppLab(tmp_path, "memory", extra=extra) as lab:
        client = await lab.connect()
        listed = (await client.request("experimentalFeature/list", {}))["data"]
        by_name = {entry["name"]: entry for entry in listed}
        assert len(by_name) == len(listed) > 200
        assert by_name["unified_exec"] == {
            "name": "unified_exec",
            "stage": "stable",
            "displayName": None,
            "description": None,
            "announcement": None,
            "enabled": False,
            "defaultEnabled": True,
        }
        # What is accepted and does nothing says so.
        assert (by_name["memories"]["stage"], by_name["memories"]["enabled"]) == ("removed", True)
        beta = by_name["request_permissions_tool"]
        assert (beta["stage"], beta["enabled"], beta["announcement"]) == ("beta", False, "")
        assert all((beta["displayName"], beta["description"]))
        stages = [entry["stage"] for entry in listed]
        assert "removed" not in stages[: stages.index("removed")]
        assert set(stages[stages.index("removed") :]) == {"removed"}
        page = await client.request("experimentalFeature/list", {"limit": 2, "cursor": "1"})
        assert (page["data"], page["nextCursor"]) == (listed[1:3], "3")
        with pytest.raises(RpcError, match="invalid cursor: x"):
            await client.request("experimentalFeature/list", {"cursor": "x"})


async def test_features_of_a_thread_are_those_of_its_folder(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        project = tmp_path / "project"
        (project / ".codex").mkdir(parents=True)
        (project / ".codex" / "config.toml").write_text("[features]\nview_image = false\n")
        trusted = {f"projects.{json.dumps(str(project))}.trust_level": "trusted"}
        [(key, value)] = trusted.items()
        await client.request("config/value/write", edit(key, value))
        session = await client.request("thread/start", {"cwd": str(project)})
        thread_id = session["thread"]["id"]

        async def view_image(**params: Any) -> bool:
            listed = (await client.request("experimentalFeature/list", params))["data"]
            return {entry["name"]: entry["enabled"] for entry in listed}["view_image"]

        assert await view_image() is True
        assert await view_image(threadId=thread_id) is False
        with pytest.raises(RpcError, match="thread not found: "):
            await view_image(threadId=thread_id[:-4] + "0000")


async def test_features_are_switched_for_the_process_below_the_configuration(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra="[features]\nmentions_v2 = false\n") as lab:
        client = await lab.connect()
        wanted = {"no_such": True, "unified_exec": False, "memories": True, "mentions_v2": True}
        taken = await client.request("experimentalFeature/enablement/set", {"enablement": wanted})
        assert taken == {"enablement": {"memories": True, "mentions_v2": True}}
        config = (await client.request("config/read", {}))["config"]
        assert config["features"] == {"memories": True, "mentions_v2": False}
        assert "memories" not in (lab.home / "config.toml").read_text()
        nothing = await client.request("experimentalFeature/enablement/set", {"enablement": {}})
        assert nothing == {"enablement": {}}


async def test_hooks_are_not_run_and_each_place_that_has_some_is_named(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()

        async def entries(**params: Any) -> list[Any]:
            return (await client.request("hooks/list", params))["data"]

        nothing = {"hooks": [], "warnings": [], "errors": []}
        assert await entries(cwds=[str(lab.work)]) == [{"cwd": str(lab.work), **nothing}]
        hooks = {"Stop": [{"hooks": [{"type": "command", "command": "echo"}]}]}
        of_home = lab.home / "hooks.json"
        of_home.write_text(json.dumps({"hooks": hooks}))
        thread_id = await lab.start_thread(client)
        [entry] = await entries(threadId=thread_id)
        assert (entry["cwd"], entry["hooks"], entry["errors"]) == (str(lab.work), [], [])
        assert [str(of_home) in text for text in entry["warnings"]] == [True]
        of_home.write_text("{nope")
        [first, second] = await entries(cwds=[str(lab.work), str(tmp_path)])
        assert [entry["cwd"] for entry in (first, second)] == [str(lab.work), str(tmp_path)]
        assert f"failed to parse hooks config {of_home}" in second["warnings"][0]
        of_home.unlink()
        await client.request("config/value/write", edit("hooks.Stop", hooks["Stop"]))
        [entry] = await entries(cwds=[str(lab.work)])
        assert [str(lab.home / "config.toml") in text for text in entry["warnings"]] == [True]


async def test_hooks_of_a_project_count_when_it_is_trusted(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        folder = lab.work / ".codex"
        folder.mkdir()
        (folder / "hooks.json").write_text(json.dumps({"hooks": {"Stop": [{"hooks": []}]}}))

        async def warnings() -> list[str]:
            listed = await client.request("hooks/list", {"cwds": [str(lab.work)]})
            return listed["data"][0]["warnings"]

        assert await warnings() == []
        key = f"projects.{json.dumps(str(lab.work))}.trust_level"
        await client.request("config/value/write", edit(key, "trusted"))
        assert [str(folder / "hooks.json") in text for text in await warnings()] == [True]
