"""What an operator does at a shell: answer, follow, drain, complete; what exit codes say."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.command_line import Finished, Home, run, started
from support.manager_api import ManagerApi
from treadle.cli.exit_codes import code_of_run
from treadle.domain.failures import FACTS, FailureKind

FAKE = [
    "--codex-command",
    sys.executable,
    "--codex-arg=-m",
    "--codex-arg=treadle.testing.fake_backend",
]


@pytest.fixture
async def manager(bare_home: Home, tmp_path: Path) -> AsyncIterator[ManagerApi]:
    data = tmp_path / "data"
    arguments = ["manager", "--port", "0", "--data", str(data), "--json"]
    async with started(bare_home, *arguments) as process:
        url = json.loads(await process.wait_line("listening"))["listening"]
        async with ManagerApi(url, data) as api:
            yield api


def at(home: Home, *arguments: str) -> list[str]:
    return [*arguments, "--data", str(home.folder.parent / "data")]


async def do(home: Home, *arguments: str) -> Finished:
    return await run(home, *at(home, *arguments))


def in_mode(home: Home, mode: str) -> Home:
    return replace(home, variables={"TREADLE_FAKE_BACKEND_MODE": mode})


async def create(manager: ManagerApi, **policy: Any) -> str:
    run_ = await manager.post("/runs", {"executionPolicy": policy})
    turn = {"type": "turn", "payload": {"prompt": "may I"}}
    await manager.post(f"/runs/{run_['id']}/commands", turn)
    return str(run_["id"])


async def test_a_question_is_seen_answered_and_its_runner_drained(
    bare_home: Home, manager: ManagerApi
) -> None:
    run_id = await create(manager, approval="on-request")
    serve = at(bare_home, "runner", "serve", "--runner-id", "r1", "--lease-ms", "900", *FAKE)
    async with (
        started(in_mode(bare_home, "approval-request"), *serve) as runner,
        started(bare_home, *at(bare_home, "runs", "tail", run_id)) as tail,
    ):
        hint = await tail.wait_line("treadle runs answer")
        assert f"answer {run_id} 1-1 accept|acceptForSession|decline|cancel" in hint
        listed = await do(bare_home, "runs", "list", "--status", "needs-input")
        assert "1-1: rm -rf build" in listed.out
        shown = await do(bare_home, "runs", "show", run_id)
        assert "accept | acceptForSession | decline | cancel" in shown.out

        wrong = await do(bare_home, "runs", "answer", run_id, "1-1", "maybe")
        assert (wrong.code, "decision-not-offered" in wrong.out) == (2, True)
        done = await do(bare_home, "runs", "answer", run_id, "1-1", "accept")
        assert (done.code, done.out) == (0, "answer completed\n")
        late = await do(bare_home, "runs", "answer", run_id, "1-1", "accept", "--json")
        assert (late.code, json.loads(late.out)["state"]) == (2, "rejected")
        assert await tail.wait_line("rm -rf build: accept (by answer)")
        assert await tail.wait_line("● decision: accept")

        busy = await do(bare_home, "runners", "list")
        assert ("r1" in busy.out, "busy" in busy.out) == (True, True)
        drained = await do(bare_home, "runners", "drain", "r1", "--wait", "30")
        assert (drained.code, drained.out) == (0, "r1 is drained; it holds 0 runs\n")
        assert (await runner.finish()).code == 0
        [left] = json.loads((await do(bare_home, "runners", "list", "--all", "--json")).out)
        assert (left["id"], left["draining"], left["heldRuns"]) == ("r1", True, 0)
        assert left["goneAt"] is not None
        assert (await do(bare_home, "runs", "cancel", run_id)).code == 0
        assert (await tail.finish()).code == 4
    missing = await do(bare_home, "runners", "drain", "nobody")
    assert (missing.code, "No such runner" in missing.err) == (2, True)


@pytest.mark.parametrize(
    ("mode", "code"),
    [("provider-503-terminal", 1), ("provider-401-rpc-error", 3), ("provider-429-terminal", 6)],
)
async def test_a_failed_run_exits_by_who_can_mend_it(
    bare_home: Home, manager: ManagerApi, mode: str, code: int
) -> None:
    run_id = await create(manager)
    once = at(bare_home, "runner", "once", "--run-id", run_id, "--one-shot", *FAKE)
    ended = await run(in_mode(bare_home, mode), *once)
    assert ended.code == code, ended.err
    assert (await do(bare_home, "runs", "tail", run_id)).code == code
    remedy = FACTS[FailureKind(json.loads(ended.out)["failureKind"])].remedy
    assert remedy[:40] in (await do(bare_home, "runs", "show", run_id)).out


def test_every_kind_of_failure_has_a_code_and_an_open_run_has_its_own() -> None:
    assert {code_of_run("failed", kind) for kind in FailureKind} == {1, 3, 6}
    assert code_of_run("failed", "a-kind-of-tomorrow") == 1
    ends = [code_of_run(status, None) for status in ("completed", "blocked", "cancelled", None)]
    assert ends == [0, 3, 4, 5]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
async def test_bash_completes_commands_options_and_choices(bare_home: Home) -> None:
    script = await run(bare_home, "completion", "bash")
    assert (script.code, script.err) == (0, "")

    async def complete(*words: str) -> set[str]:
        line = " ".join(f"'{word}'" for word in words)
        asked = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_treadle"
        process = await asyncio.create_subprocess_exec(
            "bash", "--norc", "-c", f'{script.out}\n{asked}; printf "%s\\n" "${{COMPREPLY[@]}}"',
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        return set(out.decode().split())

    assert {"run", "runs", "runner", "runners"} == await complete("treadle", "run")
    assert {"answer", "interrupt", "cancel"} <= await complete("treadle", "runs", "")
    assert {"--manager-url", "--content"} <= await complete("treadle", "runs", "answer", "--")
    assert "workspace-write" in await complete("treadle", "run", "--sandbox", "")


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
async def test_other_shells_get_a_script_too(bare_home: Home, shell: str) -> None:
    script = await run(bare_home, "completion", shell)
    assert (script.code, "answer" in script.out) == (0, True)


async def test_a_tenants_token_is_made_used_and_revoked(
    bare_home: Home, manager: ManagerApi, tmp_path: Path
) -> None:
    create = ["tokens", "create", "for the build", "--role", "submitter", "--tenant", "a"]
    wrong = await do(bare_home, *create, "--expires", "soon")
    assert (wrong.code, "as in 90d" in wrong.err) == (2, True)
    made = json.loads((await do(bare_home, *create, "--expires", "12h", "--json")).out)
    assert (made["apiToken"]["tenantId"], made["apiToken"]["role"]) == ("a", "submitter")
    await manager.post("/runs", {})
    file = tmp_path / "token-of-a"
    file.write_text(made["token"])
    mine = ["runs", "list", "--json", "--token-file", str(file)]
    assert json.loads((await do(bare_home, *mine)).out) == []
    listed = await do(bare_home, "tokens", "list")
    assert ("for the build" in listed.out, made["token"] in listed.out) == (True, False)
    token_id = made["apiToken"]["id"]
    revoked = await do(bare_home, "tokens", "revoke", token_id)
    assert (revoked.code, revoked.out) == (0, f"{token_id} (for the build) is revoked\n")
    assert json.loads((await do(bare_home, "tokens", "list", "--json")).out) == []
    ended = json.loads((await do(bare_home, "tokens", "list", "--all", "--json")).out)
    assert [each["id"] for each in ended] == [token_id]
    missing = await do(bare_home, "tokens", "revoke", "nobody")
    assert (missing.code, "No such token" in missing.err) == (2, True)
