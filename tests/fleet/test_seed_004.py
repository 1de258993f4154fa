"""The contract of the runner over stdio, test by test, on a real manager and the fake backend."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from fleet.harness import (
    Fleet,
    Work,
    errors,
    has_source,
    is_tool,
    phase,
    phases,
    place,
)
from treadle.runner.manager_client import ManagerError


async def test_runner_lease_heartbeat(fleet: Fleet) -> None:
    work = await fleet.create("outlive the lease in silence", timeout_ms=1_500)
    result = await work.go("missing-terminal", lease_ms=600)
    assert result.failure_kind == "backend-timeout"
    events = await work.events()
    assert "run-lease-expired" not in phases(events)
    assert phases(events).count("run-claimed") == 1


async def test_runner_lease_conflict_recovery(fleet: Fleet) -> None:
    work = await fleet.create("claim after stale lease")
    await fleet.client.register(
        id="runner_stale_claim",
        runId=work.run_id,
        attemptId="attempt_stale_claim",
        backendProfile="codex",
        placement="kubernetes-job",
        sourceCommit="self-test",
    )
    await fleet.client.claim(work.run_id, "runner_stale_claim", 300, None)
    result = await work.go(
        command_id=work.command_id,
        runner_id="runner_recovered_claim",
        attempt_id="attempt_recovered_claim",
        lease_ms=1_000,
        claim_retry_timeout_ms=2_000,
        claim_retry_interval_ms=50,
    )
    assert result.terminal_status == "completed"
    assert (await fleet.client.get_run(work.run_id)).claimed_by == "runner_recovered_claim"
    seen = phases(await work.events())
    assert "runner-claim-waiting-for-stale-lease" in seen
    assert "runner-claim-recovered" in seen


async def test_codex_stdio_fake_turn(fleet: Fleet) -> None:
    work = await fleet.create("hello")
    result = await work.go()
    assert result.terminal_status == "completed"
    assert isinstance(result.runner.id, str)
    events = await work.events()
    assert any(event.type == "assistant_message" for event in events)
    assert "run-claimed" in phases(events)
    run = await fleet.client.get_run(work.run_id)
    assert (run.terminal_status, run.status) == ("completed", "completed")
    assert (await work.command()).state == "completed"


async def test_codex_stdio_k8s_sandbox_override(fleet: Fleet) -> None:
    work = await fleet.create("hello sandbox override")
    env = {"AGENTRUN_CODEX_SHELL_SANDBOX": "danger-full-access"}
    result = await work.go("require-danger-sandbox", env=env)
    assert result.terminal_status == "completed"
    assert phase(await work.events(), "codex-app-server-starting")["sandbox"] == {
        "requested": "workspace-write",
        "effective": "danger-full-access",
        "overrideSource": "AGENTRUN_CODEX_SHELL_SANDBOX",
    }


async def test_codex_stdio_projected_writable_home(fleet: Fleet) -> None:
    home = fleet.tmp / "runtime-codex-home"
    result, _ = await run_profile(fleet, "codex", home, fleet.homes["codex"])
    assert result.terminal_status == "completed"
    assert home.stat().st_mode & 0o777 == 0o700
    for name in ("auth.json", "config.toml"):
        assert (home / name).stat().st_mode & 0o777 == 0o600


async def test_codex_stdio_deepseek_profile_fake_turn(fleet: Fleet) -> None:
    home = fleet.tmp / "runtime-deepseek-home"
    result, told = await run_profile(fleet, "deepseek", home, fleet.homes["deepseek"])
    assert result.terminal_status == "completed"
    assert (home / "auth.json").exists()
    assert "deepseek" in told


async def test_codex_stdio_dsflash_go_profile_fake_turn(fleet: Fleet) -> None:
    home = fleet.tmp / "runtime-dsflash-go-home"
    result, told = await run_profile(fleet, "dsflash-go", home, fleet.homes["deepseek"])
    assert result.terminal_status == "completed"
    for name in ("auth.json", "config.toml", "model-catalog.json"):
        assert (home / name).exists()
    assert "dsflash-go" in told


async def test_codex_stdio_dsflash_go_config_metadata(fleet: Fleet) -> None:
    home = fleet.tmp / "runtime-dsflash-go-home"
    _, told = await run_profile(fleet, "dsflash-go", home, fleet.homes["deepseek"])
    assert '"contextWindow":1000000' in told


async def test_codex_stdio_minimax_m3_profile_fake_turn(fleet: Fleet) -> None:
    home = fleet.tmp / "runtime-minimax-m3-home"
    result, told = await run_profile(fleet, "minimax-m3", home, fleet.homes["minimax-m3"])
    assert result.terminal_status == "completed"
    assert (home / "config.toml").exists()
    assert "minimax-m3" in told


async def test_codex_stdio_deepseek_missing_secret_no_fallback(fleet: Fleet) -> None:
    with pytest.raises(ManagerError, match="requires a matching provider credential"):
        await fleet.create("missing deepseek", profile="deepseek", credential_profile="codex")


async def test_codex_stdio_minimax_m3_missing_secret_no_fallback(fleet: Fleet) -> None:
    with pytest.raises(ManagerError, match="requires a matching provider credential"):
        await fleet.create("missing", profile="minimax-m3", credential_profile="deepseek")


async def test_codex_stdio_config_model_authoritative(fleet: Fleet) -> None:
    work = await fleet.create("hello config model")
    assert (await work.go("reject-unexpected-model")).terminal_status == "completed"


async def test_codex_stdio_explicit_model_forwarded(fleet: Fleet) -> None:
    work = await fleet.create("hello explicit model placeholder")
    payload = {"prompt": "hello explicit model", "model": "gpt-5.5"}
    command = await fleet.client.post_command(work.run_id, "turn", payload)
    result = await work.go("require-explicit-model", command_id=command.id)
    assert result.terminal_status == "completed"
    assert (await work.command(command.id)).state == "completed"


async def test_codex_stdio_final_agent_message_only(fleet: Fleet) -> None:
    work = await fleet.create("hello final message")
    assert (await work.go("multi-agent-message-final")).terminal_status == "completed"
    assert (await work.result()).reply == "Final answer only."
    events = await work.events()
    messages = [event.payload for event in events if has_source(event, "completed-agent-message")]
    assert [(m["text"], m["itemId"], m["replyAuthority"]) for m in messages] == [
        ("I am checking the workspace.", "msg_progress", False),
        ("Final answer only.", "msg_final", False),
    ]
    done = place(events, lambda e: e.payload.get("phase") == "turn/completed")
    assert place(events, lambda e: e.payload.get("itemId") == "msg_progress") < done
    assert place(events, lambda e: e.payload.get("itemId") == "msg_final") < done
    assert not any(name.startswith("item/agentMessage:") for name in phases(events))


async def test_codex_stdio_web_search_progress(fleet: Fleet) -> None:
    work = await fleet.create("hello web search progress")
    result = await work.go("web-search-progress")
    assert result.terminal_status == "completed"
    assert (await work.result()).reply == "Final IAM recommendation."
    events = await work.events()
    started = place(events, lambda e: is_tool(e, "webSearch", "item/started"))
    progress = place(events, lambda e: has_source(e, "agent-message-delta-progress"))
    completed = place(events, lambda e: is_tool(e, "webSearch", "item/completed"))
    final = place(events, lambda e: has_source(e, "completed-agent-message"))
    assert started < progress < completed < final
    assert events[progress].payload["progress"] is True
    assert not any(e.type == "tool_call" and e.payload["type"] == "reasoning" for e in events)


async def test_codex_stdio_stale_thread_resume_failed(fleet: Fleet) -> None:
    thread = {"sessionId": "s", "conversationId": "s", "threadId": "thread_missing_rollout"}
    work = await fleet.create("hello stale thread", session_ref=thread)
    result = await work.go("resume-no-rollout", command_id=work.command_id)
    assert (result.terminal_status, result.failure_kind) == ("failed", "thread-resume-failed")
    envelope = await work.result()
    assert (envelope.terminal_status, envelope.completed) == ("failed", False)
    assert envelope.failure_kind == "thread-resume-failed"
    assert envelope.session_ref.thread_id == "thread_missing_rollout"
    events = await work.events()
    replacements = {
        "thread/resume:non-resumable",
        "thread/replacement-start:completed",
        "thread/resume:completed",
        "thread/start:completed",
    }
    assert not replacements & set(phases(events))
    assert [e["failureKind"] for e in errors(events)] == ["thread-resume-failed"]


async def test_codex_stdio_live_tool_events(fleet: Fleet) -> None:
    work = await fleet.create("hello live events")
    result = await work.go("slow-tool-events")
    assert result.terminal_status == "completed"
    events = await work.events()
    index = place(events, lambda e: is_tool(e, "commandExecution", "item/started"))
    started = events[index].payload
    assert "item" not in started
    assert "itemPreview" not in started
    assert started["toolName"] == "commandExecution"
    assert started["summary"]["text"].startswith("commandExecution started:")
    assert "item/started" not in json.dumps(started["summary"])
    output = place(events, lambda e: e.type == "command_output")
    assert "live output" in events[output].payload["text"]
    done = place(events, lambda e: is_tool(e, "commandExecution", "item/completed"))
    assert index < output < done


async def test_codex_stdio_noisy_reasoning_suppression(fleet: Fleet) -> None:
    work = await fleet.create("hello noisy reasoning")
    assert (await work.go("noisy-reasoning-events")).terminal_status == "completed"
    events = await work.events()
    noise = {"item/reasoning/textDelta", "thread/tokenUsage/updated", "account/rateLimits/updated"}
    noise |= {"warning", "configWarning", "backend-turn-running"}
    assert not noise & set(phases(events))
    tools = {event.payload["type"] for event in events if event.type == "tool_call"}
    assert tools == {"commandExecution"}
    assert phase(events, "backend-turn-finished")["progressEventsPrinted"] is False
    assert any(event.payload.get("text") == "noise filtered final" for event in events)
    summary = phase(events, "codex-app-server-notifications-suppressed")
    assert summary["total"] == 8
    assert {entry["method"]: entry["count"] for entry in summary["methods"]} == {
        "account/rateLimits/updated": 1,
        "configWarning": 1,
        "item/completed": 1,
        "item/reasoning/textDelta": 2,
        "item/started": 1,
        "thread/tokenUsage/updated": 1,
        "warning": 1,
    }
    assert summary["itemTypes"] == [{"itemType": "reasoning", "count": 4}]
    assert "byMethod" not in summary
    assert "internal reasoning must not" not in repr(events)


async def test_codex_stdio_tool_progress_refreshes_idle_timeout(fleet: Fleet) -> None:
    work = await fleet.create("tool progress refreshes idle timeout", timeout_ms=120)
    result = await work.go("tool-progress-refreshes-idle")
    assert (result.terminal_status, result.failure_kind) == ("completed", None)
    events = await work.events()
    output = "".join(e.payload["text"] for e in events if e.type == "command_output")
    assert "progress 3" in output
    assert not errors(events)
    assert (await work.command()).state == "completed"


async def test_codex_stdio_idle_timeout_progress_refresh(fleet: Fleet) -> None:
    work = await fleet.create("slow progress before terminal", timeout_ms=250)
    assert (await work.go("slow-progress-before-terminal")).terminal_status == "completed"
    assert not errors(await work.events())


async def fails(fleet: Fleet, mode: str, kind: str, timeout_ms: int = 3_000) -> Work:
    """A run that fails in `mode` with `kind`, which is told once and kept everywhere."""
    work = await fleet.create(f"failure {mode}", timeout_ms=timeout_ms)
    result = await work.go(mode)
    assert (result.terminal_status, result.failure_kind) == ("failed", kind)
    told = errors(await work.events())
    assert [e["failureKind"] for e in told if not e["willRetry"]] == [kind]
    assert (await work.command()).state == "failed"
    assert (await fleet.client.get_run(work.run_id)).failure_kind == kind
    return work


async def test_codex_stdio_missing_turn_result(fleet: Fleet) -> None:
    await fails(fleet, "missing-turn-result", "backend-response-invalid")


async def test_codex_stdio_provider_auth_failed(fleet: Fleet) -> None:
    await fails(fleet, "provider-401-rpc-error", "provider-auth-failed")


async def test_codex_stdio_provider_rate_limited(fleet: Fleet) -> None:
    await fails(fleet, "provider-429-terminal", "provider-rate-limited")


async def test_codex_stdio_provider_invalid_tool_call(fleet: Fleet) -> None:
    await fails(fleet, "provider-invalid-tool-call", "provider-invalid-tool-call")


async def test_codex_stdio_provider_compact_unsupported(fleet: Fleet) -> None:
    await fails(fleet, "provider-compact-404-terminal", "provider-compact-unsupported")


async def test_codex_stdio_provider_stream_disconnected(fleet: Fleet) -> None:
    await fails(fleet, "provider-stream-disconnected-rpc-error", "provider-stream-disconnected")


async def test_codex_stdio_provider_503_rpc_error(fleet: Fleet) -> None:
    await fails(fleet, "provider-503-rpc-error", "provider-stream-disconnected")


async def test_codex_stdio_provider_503_terminal(fleet: Fleet) -> None:
    await fails(fleet, "provider-503-terminal", "provider-http-error")


async def test_codex_stdio_provider_unavailable(fleet: Fleet) -> None:
    await fails(fleet, "provider-unavailable-terminal", "provider-unavailable")


async def test_codex_stdio_provider_503_retry_event(fleet: Fleet) -> None:
    work = await fails(fleet, "provider-503-retry-event", "provider-stream-disconnected")
    told = errors(await work.events())
    assert [e["failureKind"] for e in told if e["willRetry"]] == ["provider-stream-disconnected"]


async def test_codex_stdio_invalid_json(fleet: Fleet) -> None:
    await fails(fleet, "invalid-json", "backend-json-parse-error")


async def test_codex_stdio_timeout(fleet: Fleet) -> None:
    await fails(fleet, "missing-terminal", "backend-timeout", timeout_ms=500)


async def test_codex_stdio_provider_refused_retry_recovered(fleet: Fleet) -> None:
    work = await fleet.create("retry then complete")
    result = await work.go("provider-refused-retry-then-completed")
    assert (result.terminal_status, result.failure_kind) == ("completed", None)
    told = errors(await work.events())
    assert [(e["willRetry"], e["failureKind"]) for e in told] == [
        (True, "provider-stream-disconnected")
    ]
    envelope = await work.result()
    assert (envelope.terminal_status, envelope.completed) == ("completed", True)
    assert (envelope.failure_kind, envelope.failure_message) == (None, None)


async def test_codex_stdio_command_failure_keeps_run_open(fleet: Fleet) -> None:
    work = await fleet.create("first command fails")
    result = await work.go(
        "provider-503-terminal", one_shot=False, idle_timeout_ms=100, poll_interval_ms=25
    )
    assert result.stopped == "idle-timeout"
    assert (result.terminal_status, result.failure_kind) == ("failed", "provider-http-error")
    assert (await work.command()).state == "failed"
    run = await fleet.client.get_run(work.run_id)
    assert run.status in {"claimed", "running"}
    assert (run.terminal_status, run.failure_kind) == (None, None)
    of_run = await fleet.client.result(work.run_id, work.command_id)
    assert of_run.failure_kind == "provider-http-error"
    assert (await work.result()).failure_kind == "provider-http-error"


async def test_codex_stdio_secret_unavailable(fleet: Fleet) -> None:
    work = await fleet.create("failure missing secret files")
    result = await work.go(codex_home=fleet.tmp / "missing-codex-home")
    assert (result.terminal_status, result.failure_kind) == ("blocked", "secret-unavailable")
    assert (await work.command()).state == "failed"
    envelope = await work.result()
    assert (envelope.terminal_status, envelope.failure_kind) == ("failed", "secret-unavailable")
    assert (await fleet.client.get_run(work.run_id)).terminal_status == "blocked"


async def test_codex_stdio_spawn_failure(fleet: Fleet) -> None:
    work = await fleet.create("failure spawn")
    result = await work.go(codex_command=str(fleet.tmp / "no-such-codex"), codex_args=())
    assert (result.terminal_status, result.failure_kind) == ("failed", "backend-spawn-failed")
    assert [e["failureKind"] for e in errors(await work.events())] == ["backend-spawn-failed"]
    assert (await work.command()).state == "failed"
    assert (await work.result()).failure_kind == "backend-spawn-failed"
    of_run = await fleet.client.result(work.run_id, work.command_id)
    assert of_run.failure_kind == "backend-spawn-failed"


SESSION_VOLUME = {
    "AGENTRUN_SESSION_PVC_NAME": "session-volume",
    "AGENTRUN_SESSION_PVC_NAMESPACE": "agents",
    "AGENTRUN_SESSION_PVC_MOUNT_PATH": "/home/agent/.codex/sessions",
    "AGENTRUN_CODEX_ROLLOUT_SUBDIR": "sessions",
}


async def test_session_storage_mounted(fleet: Fleet) -> None:
    work = await fleet.create("session storage mounted")
    assert (await work.go(env=SESSION_VOLUME)).terminal_status == "completed"
    mounted = phase(await work.events(), "codex-rollout-storage-mounted")
    assert mounted == {
        "phase": "codex-rollout-storage-mounted",
        "pvcName": "session-volume",
        "pvcNamespace": "agents",
        "mountPath": "/home/agent/.codex/sessions",
        "codexRolloutSubdir": "sessions",
        "valuesPrinted": False,
    }


async def test_session_storage_subdir(fleet: Fleet) -> None:
    work = await fleet.create("session storage subdir")
    path = "/home/agent/.codex-deepseek/custom"
    custom = {
        "AGENTRUN_SESSION_PVC_MOUNT_PATH": path,
        "AGENTRUN_CODEX_ROLLOUT_SUBDIR": "custom",
    }
    await work.go(env={**SESSION_VOLUME, **custom})
    mounted = phase(await work.events(), "codex-rollout-storage-mounted")
    assert (mounted["codexRolloutSubdir"], mounted["mountPath"]) == ("custom", path)


async def test_session_storage_evicted(fleet: Fleet) -> None:
    work = await fleet.create("evicted", session_ref={"threadId": "thread_missing_rollout"})
    result = await work.go("resume-no-rollout", env=SESSION_VOLUME)
    assert (result.terminal_status, result.failure_kind) == ("failed", "session-store-evicted")


async def test_session_storage_no_secret_leak(fleet: Fleet) -> None:
    work = await fleet.create("session storage no leak")
    assert (await work.go(env=SESSION_VOLUME)).terminal_status == "completed"
    told = repr(await work.events())  # which looks for credentials itself
    for file in ("auth.json", "config.toml"):
        assert (fleet.codex_home / file).read_text() not in told


async def run_profile(fleet: Fleet, profile: str, home: Path, secret_home: Path) -> tuple[Any, str]:
    """Run a turn in a projected home; the result, and all status payloads as one text."""
    work = await fleet.create(f"hello {profile}", profile=profile)
    result = await work.go(
        codex_home=home,
        backend_profile=profile,
        env={"AGENTRUN_CODEX_SECRET_HOME": str(secret_home)},
    )
    payloads = [event.payload for event in await work.events() if event.type == "backend_status"]
    return result, json.dumps(payloads, separators=(",", ":"))


async def test_codex_stdio_interrupt_before_turn_start_response(fleet: Fleet) -> None:
    work = await fleet.create("interrupt hanging tool before turn/start response", timeout_ms=1_000)
    running = asyncio.create_task(work.go("tool-hangs-before-turn-start-response"))
    await work.until(lambda e: e.payload.get("itemId") == "tool_hang_before_response")
    interrupt = await fleet.client.post_command(
        work.run_id, "interrupt", {"reason": "self-test interrupt hanging tool"}
    )
    result = await running
    assert (result.terminal_status, result.failure_kind) == ("cancelled", "cancelled")
    assert (await work.command(interrupt.id)).state == "completed"
    wanted = {
        "active-turn-control-ready",
        "interrupt-command-acknowledged",
        "turn/interrupt:completed",
        "turn/start:interrupted-before-response",
    }
    assert wanted <= set(phases(await work.events()))
