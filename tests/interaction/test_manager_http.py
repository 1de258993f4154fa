"""The manager over a real socket, as `docs/control-api.md` describes it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from treadle.control.faults import DatabaseUnusable
from treadle.control.http.server import ManagerOptions, ManagerStartError, RunningManager, serve

WAIT = 10.0


class Client:
    """JSON over one connection pool, with the short forms that the tests use."""

    def __init__(self, address: str, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.AsyncClient(base_url=address, headers=headers, timeout=WAIT)

    async def ask(
        self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        if token:
            headers["Authorization"] = f"Bearer {token}"
        sent: dict[str, Any] = {"headers": headers}
        if body is not None:
            sent["json"] = body
        answer = await self.http.request(method, path, **sent)
        return answer.status_code, answer.json()

    async def get(self, path: str) -> Any:
        status, body = await self.ask("GET", path)
        assert status == 200, body
        return body

    async def post(self, path: str, body: Any, token: str | None = None) -> Any:
        status, answer = await self.ask("POST", path, body, token)
        assert status in {200, 201}, answer
        return answer

    async def run_with_turn(self, **body: Any) -> tuple[str, str]:
        run = await self.post("/api/v1/runs", body)
        command = {"type": "turn", "payload": {"prompt": "hello"}}
        posted = await self.post(f"/api/v1/runs/{run['id']}/commands", command)
        return run["id"], posted["id"]

    async def claim(self, run_id: str, runner: str = "r", lease_ms: int = 15_000) -> Any:
        await self.post("/api/v1/runners/register", {"id": runner, "attemptId": "a"})
        body = {"runnerId": runner, "leaseMs": lease_ms}
        return await self.post(f"/api/v1/runs/{run_id}/claim", body)

    async def append(self, claim: Any, first: int, *events: Any) -> Any:
        body = {"epoch": claim["epoch"], "firstProducerSeq": first, "events": list(events)}
        return await self.post(f"/api/v1/runs/{claim['runId']}/events", body, claim["token"])


def phase(name: str, command_id: str | None = None, **payload: Any) -> dict[str, Any]:
    event: dict[str, Any] = {"type": "backend_status", "payload": {"phase": name, **payload}}
    return {**event, "commandId": command_id} if command_id else event


def message(text: str, command_id: str) -> dict[str, Any]:
    payload = {"text": text, "source": "completed-agent-message", "itemId": "m"}
    return {"type": "assistant_message", "payload": payload, "commandId": command_id}


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[RunningManager]:
    running = await serve(ManagerOptions(data_folder=tmp_path / "data"))
    yield running
    await running.stop()


@pytest.fixture
async def client(manager: RunningManager) -> AsyncIterator[Client]:
    client = Client(manager.address)
    yield client
    await client.http.aclose()


async def test_a_turn_goes_from_post_to_result(client: Client) -> None:
    run_id, command_id = await client.run_with_turn(
        sessionRef={"sessionId": "s", "conversationId": "s", "threadId": "t"}, traceSink=None
    )
    claim = await client.claim(run_id)
    answer = await client.append(
        claim,
        1,
        phase("command-acknowledged", command_id),
        message("I am checking the workspace.", command_id),
        message("Final answer only.", command_id),
        phase("command-terminal", command_id, state="completed", usage={"totalTokens": 5}),
        phase("run-terminal", terminalStatus="completed"),
    )
    assert answer["ackedProducerSeq"] == 5
    run = await client.get(f"/api/v1/runs/{run_id}")
    assert (run["status"], run["terminalStatus"], run["claimedBy"]) == (
        "completed",
        "completed",
        "r",
    )
    assert run["failureKind"] is None
    command = await client.get(f"/api/v1/runs/{run_id}/commands/{command_id}")
    assert command["state"] == "completed"
    by_command = await client.get(f"/api/v1/runs/{run_id}/commands/{command_id}/result")
    by_run = await client.get(f"/api/v1/runs/{run_id}/result?commandId={command_id}")
    assert by_command == by_run
    expected = {
        "reply": "Final answer only.",
        "terminalStatus": "completed",
        "failureKind": None,
        "failureMessage": None,
        "completed": True,
        "sessionRef": {"sessionId": "s", "conversationId": "s", "threadId": "t"},
        "usage": {"totalTokens": 5},
        "failure": None,
    }
    assert {key: by_command[key] for key in expected} == expected
    events = await client.get(f"/api/v1/runs/{run_id}/events?afterSeq=0&limit=100")
    assert [event["seq"] for event in events["items"]] == list(range(1, 9))
    assert events["terminal"]
    whole = await client.get(f"/api/v1/runs/{run_id}/result")
    assert (whole["commandId"], whole["reply"]) == (None, "Final answer only.")


async def test_the_failure_of_a_result_says_what_to_do(client: Client) -> None:
    run_id, command_id = await client.run_with_turn()
    claim = await client.claim(run_id)
    failed = phase(
        "command-terminal",
        command_id,
        state="failed",
        failureKind="provider-rate-limited",
        failureMessage="429",
    )
    await client.append(claim, 1, failed)
    result = await client.get(f"/api/v1/runs/{run_id}/commands/{command_id}/result")
    assert (result["terminalStatus"], result["completed"]) == ("failed", False)
    assert result["failure"]["class"] == "transient"
    assert result["failure"]["retryable"] is True
    assert result["failure"]["remedy"]
    assert (await client.get(f"/api/v1/runs/{run_id}"))["terminalStatus"] is None


@pytest.mark.parametrize(("profile", "given"), [("deepseek", "codex"), ("minimax-m3", "deepseek")])
async def test_a_run_without_its_profile_s_credential_is_refused(
    client: Client, profile: str, given: str
) -> None:
    secret = {"name": "s", "keys": ["auth.json", "config.toml"], "mountPath": "/x"}
    credentials = [{"profile": given, "secretRef": secret}]
    scope = {"allowCredentialEcho": False, "providerCredentials": credentials}
    body = {"backendProfile": profile, "executionPolicy": {"secretScope": scope}}
    status, problem = await client.ask("POST", "/api/v1/runs", body)
    assert (status, problem["code"]) == (400, "provider-credential-missing")
    assert "requires a matching provider credential" in problem["detail"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/v1/runs", {"executionPolicy": {"timeoutMs": "1"}}, "$.executionPolicy.timeoutMs"),
        ("/api/v1/runs", {"workspaceRef": {"kind": "host-path"}}, "$.workspaceRef"),
        ("/api/v1/runs", {"busyPolicy": "rollback"}, "$.busyPolicy"),
        ("/api/v1/runs", [], "$"),
        ("/api/v1/claims", {"runnerId": "r", "leaseMs": 1}, "$.leaseMs"),
        ("/api/v1/runs/x/commands", {"type": "dance"}, "$.type"),
        ("/api/v1/runs/x/events", {"epoch": 1, "firstProducerSeq": 1, "events": []}, "$.events"),
        (
            "/api/v1/runs/x/events",
            {"epoch": 1, "firstProducerSeq": 1, "events": [{"type": "a"}, {"payload": {}}]},
            "$.events[1]",
        ),
    ],
)
async def test_a_wrong_body_is_refused_with_the_path_of_the_field(
    client: Client, path: str, body: Any, field: str
) -> None:
    status, problem = await client.ask("POST", path, body)
    assert (status, problem["code"], problem["path"]) == (400, "invalid-request", field)


async def test_what_is_no_json_or_too_large_or_too_deep_is_refused(client: Client) -> None:
    for content, status, code in (
        (b"{", 400, "invalid-request"),
        (b'{"labels":' + b"[" * 100_000, 400, "invalid-request"),
        (b'{"traceSink":"\xff\xfe"}', 400, "invalid-request"),
        (b'"' + b"x" * (9 * 1024 * 1024), 413, "body-too-large"),
    ):
        answer = await client.http.post("/api/v1/runs", content=content)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"


STRANGE: list[Any] = [[], {}, {"a": 1}, 2**70, -1, 1.5, True, "x" * 500, "\x00", None]


async def test_strange_values_in_events_are_stored_or_refused_but_break_nothing(
    client: Client,
) -> None:
    run_id, command_id = await client.run_with_turn()
    claim = await client.claim(run_id)
    path = f"/api/v1/runs/{run_id}/events"
    sent = 0
    for value in STRANGE:
        for event in (
            phase("command-acknowledged", None, commandId=value),
            {"type": "backend_status", "payload": {"phase": value}},
            {"type": "error", "payload": {"failureKind": value, "message": value}},
            {"type": "assistant_message", "payload": {"source": value, "text": value}},
            phase("command-terminal", command_id, state=value, failureKind=value),
            phase("thread/start:completed", threadId=value),
            {"type": value, "payload": value},
        ):
            body = {"epoch": 1, "firstProducerSeq": sent + 1, "events": [event]}
            status, answer = await client.ask("POST", path, body, claim["token"])
            assert status in {200, 400}, answer
            sent += status == 200
        for field in ("epoch", "firstProducerSeq"):
            body = {"epoch": 1, "firstProducerSeq": 1, "events": [phase("x")], field: value}
            status, answer = await client.ask("POST", path, body, claim["token"])
            assert status in {400, 409} or (status, answer["duplicate"]) == (200, True)
    usage = {"totalTokens": 2**70, "inputTokens": -1, "outputTokens": True}
    await client.append(
        claim, sent + 1, phase("command-terminal", command_id, state="completed", usage=usage)
    )
    result = await client.get(f"/api/v1/runs/{run_id}/commands/{command_id}/result")
    assert result["usage"] == {}


async def test_unknown_fields_are_tolerated(client: Client) -> None:
    run = await client.post("/api/v1/runs", {"future": {"x": 1}, "executionPolicy": {"y": 2}})
    assert run["status"] == "pending"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("DELETE", "/api/v1/runs", 405, "method-not-allowed"),
        ("GET", "/api/v1/runs/none", 404, "run-not-found"),
        ("GET", "/api/v1/runs/none/stream", 404, "run-not-found"),
        ("GET", "/api/v1/runs/none/commands?waitMs=9000", 404, "run-not-found"),
        ("GET", "/api/v1/runs?limit=x", 400, "invalid-request"),
        ("GET", "/api/v1/runs?limit=0", 400, "invalid-request"),
    ],
)
async def test_errors_have_stable_codes(
    client: Client, method: str, path: str, status: int, code: str
) -> None:
    got, problem = await client.ask(method, path)
    assert (got, problem["code"], problem["status"]) == (status, code, status)


async def test_the_same_key_gives_the_same_bytes_and_another_body_a_conflict(
    client: Client,
) -> None:
    run = await client.post("/api/v1/runs", {})
    path = f"/api/v1/runs/{run['id']}/commands"
    body = {"type": "turn", "payload": {"prompt": "x"}}
    first = await client.http.post(path, json={**body, "idempotencyKey": "k"})
    again = await client.http.post(path, json=body, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    other = await client.http.post(path, json={"type": "interrupt", "idempotencyKey": "k"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency-conflict")
    assert (await client.get(path))["cmdLast"] == 1


async def test_many_posts_with_one_key_at_once_have_one_effect(client: Client) -> None:
    bodies = await asyncio.gather(
        *(client.post("/api/v1/runs", {"idempotencyKey": "k"}) for _ in range(10))
    )
    assert len({body["id"] for body in bodies}) == 1
    assert len((await client.get("/api/v1/runs"))["items"]) == 1


async def test_a_live_lease_answers_when_to_come_back(client: Client) -> None:
    run_id, _ = await client.run_with_turn()
    await client.claim(run_id, "a")
    await client.post("/api/v1/runners/register", {"id": "b"})
    status, problem = await client.ask(
        "POST", f"/api/v1/runs/{run_id}/claim", {"runnerId": "b", "leaseMs": 1000}
    )
    assert (status, problem["code"], problem["claimedBy"]) == (409, "lease-held", "a")
    assert 0 < problem["retryAfterMs"] <= 15_000


async def test_a_lapsed_lease_is_swept_and_its_writes_are_fenced(client: Client) -> None:
    run_id, _ = await client.run_with_turn()
    old = await client.claim(run_id, "a", lease_ms=100)
    page = await client.get(f"/api/v1/runs/{run_id}/events?afterSeq={old['lastSeq']}&waitMs=9000")
    assert page["items"][0]["payload"]["phase"] == "run-lease-expired"
    body = {"epoch": 1, "firstProducerSeq": 1, "events": [phase("x")]}
    status, problem = await client.ask("POST", f"/api/v1/runs/{run_id}/events", body, old["token"])
    assert (status, problem["code"], problem["epoch"]) == (409, "fenced", 1)
    assert (await client.claim(run_id, "b"))["epoch"] == 2


async def test_fenced_writes_need_the_token_of_the_claim(client: Client) -> None:
    run_id, _ = await client.run_with_turn()
    claim = await client.claim(run_id)
    body = {"epoch": 1, "firstProducerSeq": 1, "events": [phase("x")]}
    path = f"/api/v1/runs/{run_id}/events"
    for token in (None, "wrong"):
        status, problem = await client.ask("POST", path, body, token)
        assert (status, problem["code"]) == (401, "claim-token-invalid")
    late = {**body, "firstProducerSeq": 3}
    status, problem = await client.ask("POST", path, late, claim["token"])
    assert (status, problem["code"], problem["expected"]) == (409, "producer-seq-gap", 1)


async def test_a_parked_reader_gets_an_event_as_soon_as_it_is_there(
    manager: RunningManager, client: Client
) -> None:
    run_id, _ = await client.run_with_turn()
    claim = await client.claim(run_id)
    path = f"/api/v1/runs/{run_id}/events?afterSeq={claim['lastSeq']}&waitMs=30000"
    parked = [asyncio.create_task(client.get(path)) for _ in range(3)]
    await parked_readers(manager, run_id, 3)
    await client.append(claim, 1, {"type": "command_output", "payload": {"text": "hi"}})
    async with asyncio.timeout(3):
        pages = [await task for task in parked]
    assert [[e["payload"] for e in page["items"]] for page in pages] == [[{"text": "hi"}]] * 3


async def test_a_parked_runner_gets_a_command_and_the_end(client: Client) -> None:
    run_id, _ = await client.run_with_turn()
    claim = await client.claim(run_id)
    path = f"/api/v1/runs/{run_id}/commands?afterSeq=%d&waitMs=30000"
    parked = asyncio.create_task(client.get(path % 1))
    body = {"type": "interrupt", "payload": {"reason": "x"}}
    await client.post(f"/api/v1/runs/{run_id}/commands", body)
    async with asyncio.timeout(3):
        assert [c["type"] for c in (await parked)["items"]] == ["interrupt"]
    parked = asyncio.create_task(client.get(path % 2))
    await client.append(claim, 1, phase("run-terminal", terminalStatus="completed"))
    async with asyncio.timeout(3):
        assert (await parked)["items"] == []


async def test_a_parked_pool_claim_gets_work_when_it_comes(client: Client) -> None:
    await client.post("/api/v1/runners/register", {"id": "p"})
    body = {"runnerId": "p", "waitMs": 30_000}
    parked = asyncio.create_task(client.post("/api/v1/claims", body))
    run_id, command_id = await client.run_with_turn()
    async with asyncio.timeout(5):
        claims = (await parked)["items"]
    assert [claim["runId"] for claim in claims] == [run_id]
    assert [c["id"] for c in claims[0]["commands"]] == [command_id]


async def read_frames(stream: httpx.Response) -> list[dict[str, str]]:
    frames: list[dict[str, str]] = []
    frame: dict[str, str] = {}
    async for line in stream.aiter_lines():
        key, _, value = line.partition(": ")
        if line:
            frame[key] = value
        elif "data" in frame:
            frames.append(frame)
            frame = {}
        else:
            frame = {}
    return frames


async def test_the_stream_carries_every_event_once_and_ends_with_the_run(client: Client) -> None:
    run_id, _ = await client.run_with_turn()
    claim = await client.claim(run_id)
    async with client.http.stream("GET", f"/api/v1/runs/{run_id}/stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        reader = asyncio.create_task(read_frames(stream))
        for number in range(1, 31):
            await client.append(claim, number, {"type": "command_output", "payload": {}})
        await client.append(claim, 31, phase("run-terminal", terminalStatus="completed"))
        async with asyncio.timeout(5):
            frames = await reader
    events = frames[:-1]
    assert [int(f["id"]) for f in events] == list(range(1, claim["lastSeq"] + 32))
    assert frames[-1]["event"] == "end"
    assert msgspec.json.decode(frames[-1]["data"])["terminalStatus"] == "completed"


async def test_readers_that_come_and_go_while_the_run_writes_miss_and_repeat_nothing(
    client: Client,
) -> None:
    run_id, _ = await client.run_with_turn()
    claim = await client.claim(run_id)

    async def follow(take: int) -> list[int]:
        """Read `take` events per connection, then come back with the last id."""
        seen: list[int] = []
        while True:
            headers = {"Last-Event-ID": str(seen[-1])} if seen else {}
            path = f"/api/v1/runs/{run_id}/stream"
            async with client.http.stream("GET", path, headers=headers) as stream:
                left = take
                async for line in stream.aiter_lines():
                    if line == "event: end":
                        return seen
                    if line.startswith("id: "):
                        seen.append(int(line[4:]))
                        left -= 1
                    if left == 0:
                        break

    readers = [asyncio.create_task(follow(take)) for take in (1, 3, 1000)]
    for first in range(1, 41, 2):
        output = {"type": "command_output", "payload": {}}
        await client.append(claim, first, output, output)
    await client.append(claim, 41, phase("run-terminal", terminalStatus="completed"))
    async with asyncio.timeout(20):
        for reader in readers:
            assert await reader == list(range(1, claim["lastSeq"] + 42))


async def test_a_stream_goes_on_after_the_last_event_id(client: Client) -> None:
    run_id, _ = await client.run_with_turn()
    await client.post(f"/api/v1/runs/{run_id}/commands", {"type": "cancel"})
    headers = {"Last-Event-ID": "3"}
    path = f"/api/v1/runs/{run_id}/stream?afterSeq=1"
    async with client.http.stream("GET", path, headers=headers) as stream:
        frames = await read_frames(stream)
    assert frames[0]["id"] == "4"
    assert frames[-1]["event"] == "end"


async def test_runs_are_listed_by_cursor_newest_first(client: Client) -> None:
    made = [(await client.post("/api/v1/runs", {}))["id"] for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = await client.get(f"/api/v1/runs?limit=2{cursor}")
        seen += [run["id"] for run in page["items"]]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert seen == made[::-1]


async def test_stopping_sends_parked_readers_home_within_two_seconds(tmp_path: Path) -> None:
    manager = await serve(ManagerOptions(data_folder=tmp_path))
    client = Client(manager.address)
    try:
        run_id, _ = await client.run_with_turn()
        path = f"/api/v1/runs/{run_id}/events?afterSeq=2&waitMs=30000"
        parked = asyncio.create_task(client.get(path))
        async with client.http.stream("GET", f"/api/v1/runs/{run_id}/stream") as stream:
            await parked_readers(manager, run_id, 2)
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 200"
            reader = asyncio.create_task(_drain(lines))
            async with asyncio.timeout(2):
                await manager.stop()
            assert (await parked)["items"] == []
            assert not any("event: end" in line for line in await reader)
        with pytest.raises(httpx.ConnectError):
            await client.http.get("/health/live")
    finally:
        await client.http.aclose()
        await manager.stop()


async def parked_readers(manager: RunningManager, run_id: str, count: int) -> None:
    """Wait until so many requests are parked on a run; no caller could see that from outside."""
    bells = manager._log._bells
    async with asyncio.timeout(WAIT):
        while len(bells._waiting.get(run_id, ())) != count:
            await asyncio.sleep(0)


async def test_a_runner_that_went_away_while_parked_takes_no_work(
    manager: RunningManager, client: Client
) -> None:
    await client.post("/api/v1/runners/register", {"id": "gone"})
    leaving = Client(manager.address)
    body = {"runnerId": "gone", "waitMs": 30_000}
    parked = asyncio.create_task(leaving.post("/api/v1/claims", body))
    await parked_readers(manager, "", 1)
    parked.cancel()
    await asyncio.gather(parked, return_exceptions=True)
    await leaving.http.aclose()
    await parked_readers(manager, "", 0)
    run_id, _ = await client.run_with_turn()
    assert (await client.get(f"/api/v1/runs/{run_id}"))["claimedBy"] is None


async def _drain(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines]


async def test_token_mode_lets_nobody_in_without_the_token(tmp_path: Path) -> None:
    options = ManagerOptions(data_folder=tmp_path, auth="token", token="open sesame")
    manager = await serve(options)
    stranger, friend = Client(manager.address), Client(manager.address, "open sesame")
    try:
        for token in (None, "wrong"):
            status, problem = await stranger.ask("GET", "/api/v1/runs", token=token)
            assert (status, problem["code"]) == (401, "unauthorized")
        run_id, _ = await friend.run_with_turn()
        claim = await friend.claim(run_id)
        answer = await stranger.append(claim, 1, phase("x"))
        assert answer["ackedProducerSeq"] == 1
        status, problem = await friend.ask(
            "POST",
            f"/api/v1/runs/{run_id}/events",
            {"epoch": 1, "firstProducerSeq": 2, "events": [phase("x")]},
        )
        assert (status, problem["code"]) == (401, "claim-token-invalid")
        assert (await stranger.get("/health/live"))["status"] == "ok"
        assert (await stranger.get("/health/ready"))["schemaVersion"] >= 1
    finally:
        await stranger.http.aclose()
        await friend.http.aclose()
        await manager.stop()


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
)
async def test_a_foreign_web_page_cannot_reach_a_manager_without_auth(
    client: Client, headers: dict[str, str]
) -> None:
    answer = await client.http.post("/api/v1/runs", json={}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "host-refused")
    assert (await client.get("/api/v1/runs"))["items"] == []


async def test_a_port_in_use_is_told_with_the_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ManagerStartError, match=r"is in use by another program.*another port"):
            await serve(ManagerOptions(port=port, data_folder=tmp_path))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"host": "0.0.0.0"}, "use auth mode token"),
        ({"auth": "token"}, "needs a token"),
        ({"database_url": "mysql://u:secret@h/d"}, "give sqlite:///PATH"),
        ({"host": "192.0.2.1", "auth": "token", "token": "t"}, "Cannot listen"),
        ({"port": 70_000}, "Cannot listen"),
    ],
)
async def test_options_that_cannot_work_are_told_with_the_remedy(
    tmp_path: Path, options: dict[str, Any], text: str
) -> None:
    with pytest.raises((ManagerStartError, DatabaseUnusable), match=text) as caught:
        await serve(ManagerOptions(data_folder=tmp_path, **options))
    assert "secret" not in str(caught.value)


async def test_a_folder_that_cannot_be_written_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DatabaseUnusable, match="another data folder"):
        await serve(ManagerOptions(data_folder=tmp_path / "file" / "data"))


async def test_a_second_manager_on_the_same_database_is_refused(
    manager: RunningManager, tmp_path: Path
) -> None:
    assert manager.address
    with pytest.raises(DatabaseUnusable, match="in use by another manager"):
        await serve(ManagerOptions(data_folder=tmp_path / "data"))
