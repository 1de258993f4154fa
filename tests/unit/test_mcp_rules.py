"""MCP servers before any of them runs: names, configuration, approval, answers."""

from pathlib import Path
from typing import Any

import pytest

from treadle.config.environment import Environment
from treadle.config.mcp_servers import read_mcp_servers
from treadle.domain.policy import DangerFullAccess, ReadOnly, Settings
from treadle.engine.tools import mcp_output
from treadle.engine.tools.mcp_approvals import judge
from treadle.engine.tools.mcp_names import MAX_NAME_CHARS, namespaces, split_flat, tool_names
from treadle.engine.tools.mcp_settings import HttpTransport, ServerSettings, StdioTransport

VARIABLES = {"PATH": "/bin", "HOME": "/home/me", "TOKEN": "t0ken", "SECRET": "hidden"}


def read(row: dict[str, Any], **variables: str) -> ServerSettings:
    environment = Environment({**VARIABLES, **variables}, Path("/start"))
    [server] = read_mcp_servers({"mcp_servers": {"s": row}}, environment, Path("/work"))
    return server


# ------------------------------------------------------------------ names


def test_ordinary_names_are_kept():
    assert namespaces(["files", "my-server"]) == {
        "files": "mcp__files",
        "my-server": "mcp__my-server",
    }
    assert tool_names(["read_file"]) == {"read_file": "read_file"}


def test_names_that_providers_refuse_are_replaced_and_stay_apart():
    names = tool_names(["a.b", "a_b", "a/b"])
    assert names["a_b"] == "a_b"
    assert len(set(names.values())) == 3
    assert all(name.replace("_", "").isalnum() for name in names.values())


def test_long_names_fit_and_stay_apart():
    long = ["x" * 100 + "1", "x" * 100 + "2"]
    names = tool_names(long)
    assert len(set(names.values())) == 2
    assert all(len(name) <= MAX_NAME_CHARS for name in names.values())


def test_a_name_does_not_depend_on_the_order_of_its_set():
    assert tool_names(["a.b", "a/b"]) == tool_names(["a/b", "a.b"])


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mcp__files__read", ("mcp__files", "read")),
        ("mcp__my__files__read", ("mcp__my__files", "read")),
        ("mcp__files", None),
        ("mcp__files__", None),
        ("exec_command", None),
    ],
)
def test_glued_names_are_taken_apart(name: str, parts: tuple[str, str] | None):
    assert split_flat(name) == parts


# ------------------------------------------------------------------ configuration


def test_a_command_gets_harmless_variables_those_it_names_and_its_own():
    server = read({"command": "c", "env_vars": ["TOKEN", "UNSET"], "env": {"MORE": "1"}})
    assert isinstance(server.transport, StdioTransport)
    assert dict(server.transport.env) == {
        "PATH": "/bin",
        "HOME": "/home/me",
        "TOKEN": "t0ken",
        "MORE": "1",
    }
    assert server.transport.cwd == "/work"


@pytest.mark.parametrize(("cwd", "folder"), [("sub", "/work/sub"), ("~/x", "/home/me/x")])
def test_the_folder_of_a_command_is_made_absolute(cwd: str, folder: str):
    transport = read({"command": "c", "cwd": cwd}).transport
    assert isinstance(transport, StdioTransport)
    assert transport.cwd == folder


def test_headers_come_from_the_file_and_from_variables():
    server = read(
        {
            "url": "http://h/mcp",
            "http_headers": {"X-One": "1"},
            "env_http_headers": {"X-Two": "SECRET", "X-Three": "UNSET"},
            "bearer_token_env_var": "TOKEN",
        }
    )
    assert server.transport == HttpTransport(
        "http://h/mcp",
        (("Authorization", "Bearer t0ken"), ("X-One", "1"), ("X-Two", "hidden")),
    )
    assert server.bearer


def test_no_secret_shows_when_settings_are_printed():
    web = read({"url": "http://h", "bearer_token_env_var": "TOKEN"})
    local = read({"command": "c", "env_vars": ["SECRET"]})
    assert "t0ken" not in repr(web)
    assert "hidden" not in repr(local)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"url": "http://h", "bearer_token_env_var": "NOT_SET"}, "NOT_SET"),
        ({"url": "http://h", "bearer_token": "plain"}, "bearer_token_env_var"),
        ({"command": "c", "env_vars": [{"source": "local"}]}, "needs a `name`"),
    ],
)
def test_what_cannot_be_resolved_is_said_and_not_reached(row: dict[str, Any], words: str):
    server = read(row)
    assert server.transport is None
    assert words in (server.problem or "")


def test_equal_servers_can_share_and_others_cannot():
    row = {"command": "c", "args": ["x"]}
    assert read(row).transport == read({**row, "tool_timeout_sec": 5}).transport
    assert read(row).transport != read({**row, "env": {"A": "1"}}).transport


def test_limits_are_read_with_their_defaults():
    assert (read({"command": "c"}).startup_seconds, read({"command": "c"}).call_seconds) == (10, 60)
    assert read({"command": "c", "startup_timeout_ms": 1500}).startup_seconds == 1.5
    assert read({"command": "c", "tool_timeout_sec": 0.5}).call_seconds == 0.5


def test_tools_are_offered_as_listed():
    row: dict[str, Any] = {"command": "c", "enabled_tools": ["a", "b", "c"]}
    row |= {"disabled_tools": ["b"], "tools": {"c": {"enabled": False}}}
    server = read(row)
    assert [tool for tool in "abcd" if server.offers(tool)] == ["a"]


# ------------------------------------------------------------------ approval

FULL, READ_ONLY = DangerFullAccess(), ReadOnly()
READS, WRITES = {"readOnlyHint": True}, {"readOnlyHint": False}


@pytest.mark.parametrize(
    ("mode", "annotations", "policy", "sandbox", "verdict"),
    [
        ("auto", WRITES, "on-request", READ_ONLY, "ask"),
        ("auto", {}, "on-request", FULL, "ask"),
        ("auto", READS, "on-request", READ_ONLY, "run"),
        ("auto", WRITES, "never", READ_ONLY, "refuse"),
        ("auto", WRITES, "never", FULL, "run"),
        ("auto", READS, "never", READ_ONLY, "run"),
        ("writes", READS, "untrusted", READ_ONLY, "run"),
        ("writes", WRITES, "untrusted", READ_ONLY, "ask"),
        ("prompt", READS, "on-request", READ_ONLY, "ask"),
        ("prompt", READS, "never", FULL, "refuse"),
        ("approve", WRITES, "never", READ_ONLY, "run"),
        ("auto", WRITES, {"granular": {"mcp_elicitations": True}}, READ_ONLY, "ask"),
        ("auto", WRITES, {"granular": {"mcp_elicitations": False}}, READ_ONLY, "refuse"),
    ],
)
def test_what_becomes_of_a_call(
    mode: Any, annotations: dict[str, Any], policy: Any, sandbox: Any, verdict: str
):
    settings = Settings(
        model="m", model_provider="p", cwd="/", approval_policy=policy, sandbox=sandbox
    )
    assert judge(mode, annotations, settings) == verdict


# ------------------------------------------------------------------ answers


def parts(result: dict[str, Any]) -> list[dict[str, Any]]:
    content = mcp_output.as_output(result, 0.5).content
    assert content is not None
    assert content[0]["text"] == "Wall time: 0.5000 seconds\nOutput:"
    return content[1:]


def test_texts_and_pictures_reach_the_model_as_such():
    picture = {"type": "image", "mimeType": "image/png", "data": "AAAA"}
    sound = {"type": "audio", "mimeType": "audio/wav", "data": "AAAA"}
    assert parts({"content": [{"type": "text", "text": "hi"}, picture, sound]}) == [
        {"type": "input_text", "text": "hi"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        {"type": "input_text", "text": "(audio of type audio/wav, left out)"},
    ]


def test_structured_content_stands_in_where_there_is_no_other():
    assert parts({"content": [], "structuredContent": {"a": 1}}) == [
        {"type": "input_text", "text": '{"a":1}'}
    ]


def test_many_long_parts_share_one_budget():
    block = {"type": "text", "text": "x" * 30_000}
    given = parts({"content": [block] * 20})
    assert sum(len(part["text"]) for part in given) < mcp_output.MAX_TEXT_CHARS + 500
    assert "left out" in given[-1]["text"]


def test_more_pictures_than_the_bound_are_named_only():
    picture = {"type": "image", "mimeType": "image/png", "data": "AAAA"}
    given = parts({"content": [picture] * 12})
    kinds = [part["type"] for part in given]
    assert kinds.count("input_image") == mcp_output.MAX_IMAGES
    assert kinds.count("input_text") == 12 - mcp_output.MAX_IMAGES


def test_an_item_carries_an_ordinary_result_whole_and_cuts_a_huge_one():
    small = {"content": [{"type": "text", "text": "hi"}], "structuredContent": {"a": 1}}
    assert mcp_output.for_item(small) == {**small, "_meta": None}
    huge = mcp_output.for_item({"content": [{"type": "text", "text": "x" * 3_000_000}]})
    assert len(huge["content"][0]["text"]) < mcp_output.MAX_TEXT_CHARS + 100


def test_an_error_of_the_tool_is_no_success():
    output = mcp_output.as_output({"content": [], "isError": True}, 0.1)
    assert not output.success
