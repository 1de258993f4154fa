import json
from pathlib import Path
from typing import Any

import pytest

from support.app_lab import AppLab, Kind, turn
from treadle.wire.protocol.errors import INVALID_REQUEST, UNSUPPORTED, RpcError

BOTH = pytest.mark.parametrize("kind", ["memory", "stdio"])
HELLO = {"clientInfo": {"name": "lab", "version": "1"}}


@BOTH
async def test_the_handshake_tells_who_serves_and_where(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect_raw()
        result = await client.initialize("lab", "1.0")
        assert result.user_agent.startswith("lab/0.169.0 (")
        assert "treadle/" in result.user_agent
        assert result.codex_home == str(lab.home)
        assert (result.platform_family, result.platform_os) == ("unix", "linux")


@BOTH
async def test_nothing_is_served_before_the_handshake(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect_raw()
        with pytest.raises(RpcError, match=r"^Not initialized$") as raised:
            await client.request("thread/list", {})
        assert raised.value.code == INVALID_REQUEST
        await client.request("initialize", HELLO)
        assert (await client.request("thread/list", {}))["data"] == []


async def test_the_handshake_happens_once(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        with pytest.raises(RpcError, match=r"^Already initialized$") as raised:
            await client.request("initialize", HELLO)
        assert raised.value.code == INVALID_REQUEST
        await client.request("model/list", {})


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (None, "Invalid request: missing field `params`"),
        ({}, "Invalid request: missing field `clientInfo`"),
        ({"clientInfo": {"version": "1"}}, "Invalid request: missing field `name`"),
        ({"clientInfo": {"name": "a"}}, "Invalid request: missing field `version`"),
        (
            {"clientInfo": {"name": 5, "version": "1"}},
            "Invalid request: invalid type: integer `5`, expected a string",
        ),
    ],
)
async def test_a_handshake_with_missing_or_wrong_fields_names_them(
    tmp_path: Path, params: Any, text: str
):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect_raw()
        with pytest.raises(RpcError) as raised:
            await client.request("initialize", params)
        assert (raised.value.code, raised.value.message) == (INVALID_REQUEST, text)
        await client.request("initialize", HELLO)  # the connection is still good


async def test_a_client_name_must_fit_a_header(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect_raw()
        with pytest.raises(RpcError, match="Must be a valid HTTP header value"):
            await client.request("initialize", {"clientInfo": {"name": "a\nb", "version": "1"}})
        with pytest.raises(RpcError, match="Not initialized"):
            await client.request("thread/list", {})


async def test_an_unknown_method_is_named_beside_the_known_ones(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        with pytest.raises(RpcError) as raised:
            await client.request("thread/explode", {})
        assert raised.value.code == INVALID_REQUEST
        assert "unknown variant `thread/explode`, expected one of `" in raised.value.message
        assert "`thread/start`" in raised.value.message


async def test_a_method_that_is_not_offered_says_so(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect(experimental=True)
        with pytest.raises(RpcError, match="windowsSandbox/setupStart is not supported") as raised:
            await client.request("windowsSandbox/setupStart", {})
        assert raised.value.code == UNSUPPORTED


async def test_experimental_methods_and_fields_need_the_opt_in(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        with pytest.raises(RpcError, match=r"^mock/experimentalMethod requires experimentalApi"):
            await client.request("mock/experimentalMethod", {})
        with pytest.raises(RpcError, match=r"^thread/start.dynamicTools requires experimentalApi"):
            await client.request("thread/start", {"dynamicTools": []})
        other = await lab.connect(experimental=True)
        await other.request("thread/start", {"dynamicTools": []})


@BOTH
async def test_notifications_that_were_opted_out_of_do_not_come(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect(opt_out=("item/agentMessage/delta", "thread/started"))
        await lab.run_turn(client, await lab.start_thread(client))
        methods = client.methods()
        assert "item/completed" in methods
        assert "item/agentMessage/delta" not in methods
        assert "thread/started" not in methods


@BOTH
async def test_frames_that_are_no_messages_are_skipped(tmp_path: Path, kind: Kind):
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        for frame in (
            b"\xff\xfe\x00",
            b"{",
            b"[]",
            b'{"id":1,"method":"thread/\xff"}',
            b"7",
            b"{}",
        ):
            await client.tap.send([frame])
        assert (await client.request("thread/list", {}))["data"] == []


async def test_ids_of_requests_come_back_as_they_were(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        ids = ["text", "", "é", 0, -5, 2**63 - 1]
        frames = [json.dumps({"id": i, "method": "thread/list", "params": {}}) for i in ids]
        await client.tap.send([frame.encode() for frame in frames])
        answers = await client.tap.until_answered(ids)
        assert sorted(map(repr, answers)) == sorted(map(repr, ids))


@BOTH
async def test_a_flood_of_requests_is_answered_one_by_one(tmp_path: Path, kind: Kind):
    """Each gets a result or the overload error, whatever was in flight at its time."""
    count = 3000
    async with AppLab(tmp_path, kind) as lab:
        client = await lab.connect()
        frames = [
            b'{"id":"f%d","method":"thread/loaded/list","params":{}}' % number
            for number in range(count)
        ]
        await client.tap.send(frames)
        answers = await client.tap.until_answered([f"f{number}" for number in range(count)])
        assert sum(str(m.get("id", "")).startswith("f") for m in client.tap.seen) == count
        codes = {m["error"]["code"] for m in answers.values() if "error" in m}
        assert codes <= {-32001}
        assert sum("result" in m for m in answers.values()) >= 512


async def test_configuration_problems_are_told_after_the_handshake(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra='no_such_key = "x"') as lab:
        (lab.home / "config.toml").write_text("model = [broken")
        client = await lab.connect()
        told = await client.settle()
        warnings = [event.params for event in told if event.method == "configWarning"]
        assert len(warnings) == 1
        assert "config.toml" in json.dumps(warnings[0])


async def test_every_notification_carries_the_time_of_its_making(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        await lab.run_turn(client, await lab.start_thread(client))
        told = [message for message in client.tap.seen if "method" in message]
        stamps = [message["emittedAtMs"] for message in told]
        assert len(stamps) > 5
        assert stamps == sorted(stamps)


async def test_a_wrong_type_deep_in_the_parameters_is_explained(tmp_path: Path):
    async with AppLab(tmp_path, "memory") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        wrong = turn(thread_id)
        wrong["input"][0]["text"] = 7
        with pytest.raises(RpcError) as raised:
            await client.request("turn/start", wrong)
        expected = "Invalid request: invalid type: integer `7`, expected a string"
        assert (raised.value.code, raised.value.message) == (INVALID_REQUEST, expected)
