"""What looks like a token is stored and shown nowhere, whichever endpoint it came through."""

import json
import logging
import secrets
import string
from pathlib import Path
from typing import Any

import pytest

from support.control_lab import API_TOKEN, ControlLab, control_lab
from treadle.control.http.operations import OPERATIONS
from treadle.kit.redact import MARK

LETTERS = string.ascii_letters + string.digits


def letters(count: int) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(count))


def make_canaries() -> list[str]:
    return [
        f"sk-proj-{letters(40)}",
        f"ghp_{letters(36)}",
        f"github_pat_{letters(40)}",
        f"xoxb-{letters(24)}",
        f"AKIA{letters(16).upper()}",
        f"tdl_{letters(43)}",
        f"eyJ{letters(20)}.eyJ{letters(30)}.{letters(40)}",
    ]


def hidden_forms(canary: str) -> list[Any]:
    """A canary at many places of a JSON value."""
    return [
        canary,
        f"key={canary}\nnext",
        {"deep": [{"er": canary}], canary: "as a key"},
        json.dumps({"arguments": f"line\n{canary}"}),
        f"curl -H 'Authorization: Bearer {letters(3)}{canary}'",
    ]


async def feed(lab: ControlLab, canary: str) -> None:
    """Send a canary through every endpoint that writes."""
    fed: set[str] = set()

    async def post(path: str, body: Any, token: str | None = None, **ids: str) -> Any:
        fed.add(path)
        return await lab.post(path.format(**ids), body, token)

    forms = hidden_forms(canary)
    run_path = "/api/v1/runs/{run_id}"
    run = await post(
        "/api/v1/runs",
        {
            "tenantId": canary,
            "providerId": canary,
            "traceSink": forms,
            "labels": {canary: canary},
            "workspaceRef": {"path": f"/srv/{canary}"},
        },
    )
    run_id = run["id"]
    turn = {"type": "turn", "payload": {"prompt": canary, "more": forms}}
    command = await post(run_path + "/commands", turn, run_id=run_id)
    registration = await post(
        "/api/v1/runners/register",
        {"id": "r", "labels": {canary: canary}, "placement": canary},
    )
    who = {"runnerId": "r", "attemptId": canary}
    claim = await post(run_path + "/claim", who, run_id=run_id)
    held = await lab.http.post(f"/api/v1/runs/{run_id}/claim", json={**who, "attemptId": "another"})
    assert held.status_code == 409
    assert canary not in held.text
    events = [
        {"type": "assistant_message", "payload": {"text": text}, "commandId": command["id"]}
        for text in forms
    ]
    events += [
        {"type": canary, "payload": {}, "at": canary},
        {"type": "error", "payload": {"failureKind": "backend-timeout", "message": canary}},
        {
            "type": "backend_status",
            "commandId": command["id"],
            "payload": {
                "phase": "command-terminal",
                "state": "failed",
                "failureKind": "provider-auth-failed",
                "failureMessage": f"refused {canary}",
                "threadId": canary,
            },
        },
    ]
    batch = {"epoch": claim["epoch"], "firstProducerSeq": 1, "events": events}
    await post(run_path + "/events", batch, claim["token"], run_id=run_id)
    beat = {"runs": [{"runId": canary, "epoch": 1}]}
    answer = await post(
        "/api/v1/runners/{runner_id}/heartbeat",
        beat,
        registration["token"],
        runner_id=registration["id"],
    )
    assert answer["lost"] == [MARK]
    last = {"epoch": claim["epoch"], "reason": f"because {canary}"}
    await post(run_path + "/release", last, claim["token"], run_id=run_id)
    await post("/api/v1/claims", {**who, "backendProfile": canary})
    drain = {"draining": False, "reason": canary}
    await post("/api/v1/runners/{runner_id}/drain", drain, runner_id="r")
    gone = {"sessionId": canary, "reason": f"killed by {canary}"}
    await post("/api/v1/runners/{runner_id}/gone", gone, runner_id="r")
    await post("/api/v1/tokens", {"name": "n", "role": "reader", "tenantId": canary})
    assert fed == {each.path for each in OPERATIONS if each.method == "POST"}
    for path in ("", "/result", "/events?limit=1000", "/commands"):
        shown = await lab.http.get(f"/api/v1/runs/{run_id}{path}")
        assert canary not in shown.text
    await lab.post(f"/api/v1/runs/{run_id}/commands", {"type": "cancel"})
    stream = await lab.http.get(f"/api/v1/runs/{run_id}/stream")
    assert MARK in stream.text
    assert canary not in stream.text


def assert_absent(folder: Path, canary: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(MARK.encode() in path.read_bytes() for path in files), "nothing was stored at all"
    assert [path.name for path in files if canary.encode() in path.read_bytes()] == []


async def test_tokens_through_every_write_are_in_no_file_log_stream_or_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "treadle")
    caplog.set_level(logging.DEBUG, "uvicorn")
    canaries = make_canaries()
    async with control_lab(tmp_path) as lab:
        for canary in canaries:
            await feed(lab, canary)
            assert_absent(tmp_path, canary)  # with the write-ahead log as it is now
        metrics = (await lab.http.get("/metrics")).text
    for canary in canaries:
        assert_absent(tmp_path, canary)
        assert canary not in caplog.text
        assert canary not in metrics


@pytest.mark.parametrize(
    "body",
    [
        b'{"type": "%s"}',
        b'{"type": "turn", "payload": "%s"}',
        b'{"type": "turn", "payload": {"prompt": 1, "%s": 2}}',
        b'{"type": "turn" "%s"}',
        b'{"type": "turn", "payload": {"prompt": "x", "model": ["%s"]}}',
    ],
)
async def test_refusals_do_not_repeat_a_token(
    tmp_path: Path, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "treadle")
    canary = make_canaries()[0]
    async with control_lab(tmp_path) as lab:
        run = await lab.post("/api/v1/runs", {})
        path = f"/api/v1/runs/{run['id']}/commands"
        answer = await lab.http.post(path, content=body % canary.encode())
        assert answer.status_code == 400
        assert canary not in answer.text
    assert canary not in caplog.text


async def test_keys_and_ids_that_look_like_tokens_are_refused_since_two_would_become_one(
    tmp_path: Path,
) -> None:
    canary = make_canaries()[0]
    async with control_lab(tmp_path) as lab:
        answers = [
            await lab.http.post("/api/v1/runs", json={"idempotencyKey": canary}),
            await lab.http.post("/api/v1/runs", headers={"Idempotency-Key": canary}),
            await lab.http.post("/api/v1/runners/register", json={"id": canary}),
        ]
        assert (await lab.get("/api/v1/runs"))["items"] == []
    assert [answer.status_code for answer in answers] == [400] * 3
    assert all("looks like a token" in answer.json()["detail"] for answer in answers)


async def test_escapes_and_repeated_keys_hide_no_token(tmp_path: Path) -> None:
    canary = make_canaries()[1]
    escaped = f"\\u00{ord(canary[0]):02x}{canary[1:]}"
    async with control_lab(tmp_path) as lab:
        run_id, _ = await lab.run_with_turn()
        claim = await lab.claim(run_id)
        for seq, payload in enumerate(
            (f'{{"a": "{escaped}"}}', f'{{"a": "{canary}", "a": "x"}}'), start=1
        ):
            body = (
                f'{{"epoch": 1, "firstProducerSeq": {seq}, '
                f'"events": [{{"type": "t", "payload": {payload}}}]}}'
            )
            headers = {"Authorization": f"Bearer {claim['token']}"}
            path = f"/api/v1/runs/{run_id}/events"
            answer = await lab.http.post(path, content=body, headers=headers)
            assert answer.is_success, answer.text
        text = (await lab.http.get(f"/api/v1/runs/{run_id}/events")).text
        payloads = [each["payload"] for each in json.loads(text)["items"] if each["type"] == "t"]
    assert payloads == [{"a": MARK}, {"a": "x"}]
    for path in tmp_path.rglob("*"):
        assert canary[1:].encode() not in (path.read_bytes() if path.is_file() else b"")


async def test_the_api_token_itself_is_redacted_whatever_its_shape(tmp_path: Path) -> None:
    async with control_lab(tmp_path, locked=True) as lab:
        run_id, _ = await lab.run_with_turn(labels={"note": f"uses {API_TOKEN}"})
        assert (await lab.get(f"/api/v1/runs/{run_id}"))["labels"] == {"note": f"uses {MARK}"}
    assert_absent(tmp_path, API_TOKEN)


async def test_names_of_methods_and_providers_survive(tmp_path: Path) -> None:
    names = ["thread/start:completed", "sk-proxy", "dsflash-go", "task-sk-1", "bearer of news"]
    async with control_lab(tmp_path) as lab:
        run_id, _ = await lab.run_with_turn(providerId="openai-sk", traceSink=names)
        run = await lab.get(f"/api/v1/runs/{run_id}")
    assert (run["providerId"], run["traceSink"]) == ("openai-sk", names)
