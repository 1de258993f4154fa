"""What the fake app-server does in a turn, by mode.

One function per behaviour; `SCRIPTS` is the table of modes. The names are those of the contract's
fake backend, and at the end some of Treadle's own for drills. Knows the fake server only.
"""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from typing import Any

from treadle.testing.fake_server import FakeServer, Refused, Script

TICK_SECONDS = 0.04


def default(server: FakeServer, prompt: str) -> None:
    """A friendly turn: one answer, streamed in two pieces."""
    server.answer_start()
    server.started()
    say(server, f"fake turn completed: {prompt}", "msg_1")
    server.in_turn("thread/tokenUsage/updated", tokenUsage=_usage(10, 5))
    server.completed()


def multi_agent_message(server: FakeServer, _prompt: str) -> None:
    """Two agent messages, of which the last is the reply."""
    server.answer_start()
    server.started()
    say(server, "I am checking the workspace.", "msg_progress")
    say(server, "Final answer only.", "msg_final")
    server.completed()


def web_search(server: FakeServer, _prompt: str) -> None:
    """Talk while a web search runs, then answer."""
    server.answer_start()
    server.started()
    search = {"type": "webSearch", "id": "ws_1"}
    server.item("started", **search, query="", action={"type": "other"})
    server.pause(0.05)
    server.item("started", type="agentMessage", id="msg_search", text="")
    server.in_turn("item/agentMessage/delta", itemId="msg_search", delta="Searching for ")
    server.in_turn("item/agentMessage/delta", itemId="msg_search", delta="IAM guidance.")
    server.pause(0.4)
    server.item("started", type="reasoning", id="rs_1", summary=[], content=[])
    server.item("completed", **search, query="iam", action={"type": "search", "query": "iam"})
    text = "Final IAM recommendation."
    server.item("completed", type="agentMessage", id="msg_search", text=text)
    server.completed()


def slow_tool(server: FakeServer, _prompt: str) -> None:
    """A command whose output shows while it runs."""
    server.answer_start()
    server.started()
    show_command(server, "started", "tool_live", "make test")
    server.pause(0.3)
    show_output(server, "tool_live", "live output\n")
    server.pause(0.3)
    show_command(server, "completed", "tool_live", "make test", aggregatedOutput="live output\n")
    say(server, "live tool done", "msg_1")
    server.completed()


def tool_hangs(server: FakeServer, _prompt: str) -> None:
    """`turn/start` is never answered and its tool never ends; only an interrupt helps."""
    server.started()
    show_command(server, "started", "tool_hang_before_response", "sleep infinity")
    for _ in range(10_000):
        server.pause(0.2)
        show_output(server, "tool_hang_before_response", ".")


def tool_progress(server: FakeServer, _prompt: str) -> None:
    """Output comes now and then, for longer than the idle budget in total."""
    server.answer_start()
    server.started()
    show_command(server, "started", "tool_progress", "make slow")
    for step in range(1, 6):
        server.pause(TICK_SECONDS)
        show_output(server, "tool_progress", f"progress {step}\n")
    show_command(server, "completed", "tool_progress", "make slow", aggregatedOutput=None)
    say(server, "progress done", "msg_1")
    server.completed()


def noisy_reasoning(server: FakeServer, _prompt: str) -> None:
    """Eight notifications that must not become durable, around one real command and answer."""
    secret_thought = "internal reasoning must not become durable trace text"
    reasoning: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": []}
    server.answer_start()
    server.started()
    server.item("started", **reasoning, content=[])
    for index in range(2):
        server.in_turn(
            "item/reasoning/textDelta", itemId="rs_1", delta=secret_thought, contentIndex=index
        )
    server.item("completed", **reasoning, content=[secret_thought])
    server.in_turn("thread/tokenUsage/updated", tokenUsage=_usage(20, 7))
    server.notify("account/rateLimits/updated", rateLimits={"primary": None})
    server.notify("warning", threadId=server.thread_id, message="low value warning")
    server.notify("configWarning", summary="low value config warning", details=None)
    show_command(server, "started", "tool_1", "ls")
    show_command(server, "completed", "tool_1", "ls", aggregatedOutput="a\n")
    say(server, "noise filtered final", "msg_1")
    server.completed()


def slow_progress(server: FakeServer, _prompt: str) -> None:
    """The turn takes longer than its idle budget, but is never silent for that long."""
    server.answer_start()
    server.started()
    for step in range(6):
        server.pause(0.07)
        server.in_turn("item/agentMessage/delta", itemId="msg_1", delta=f"part {step} ")
    text = "".join(f"part {step} " for step in range(6))
    server.item("completed", type="agentMessage", id="msg_1", text=text)
    server.completed()


def rpc_error(message: str, info: Any, _server: FakeServer, _prompt: str) -> None:
    """`turn/start` is answered with an error."""
    raise Refused(message, -32603, {"message": message, "codexErrorInfo": info})


def terminal_error(message: str, info: Any, server: FakeServer, _prompt: str) -> None:
    """The turn starts, then fails for good."""
    server.answer_start()
    server.started()
    error = {"message": message, "codexErrorInfo": info, "additionalDetails": None}
    server.in_turn("error", error=error, willRetry=False)
    server.completed("failed", error)


def retry_then(outcome: str, message: str, server: FakeServer, prompt: str) -> None:
    """A retry is announced; then the turn fails all the same, or recovers."""
    info = {"responseStreamDisconnected": {"httpStatusCode": None}}
    server.answer_start()
    server.started()
    error = {"message": "Reconnecting... 1/5", "codexErrorInfo": info, "additionalDetails": message}
    server.in_turn("error", error=error, willRetry=True)
    server.pause(TICK_SECONDS)
    if outcome == "completed":
        say(server, f"recovered: {prompt}", "msg_1")
        server.completed()
        return
    final = {"message": message, "codexErrorInfo": info, "additionalDetails": None}
    server.completed("failed", final)


def missing_turn_result(server: FakeServer, _prompt: str) -> None:
    """`turn/start` is answered without its turn."""
    server.answer_start({"ok": True})


def invalid_json(server: FakeServer, _prompt: str) -> None:
    """A line that is no JSON."""
    server.write_raw("{this is not json\n")
    server.pause(30)


def missing_terminal(server: FakeServer, _prompt: str) -> None:
    """The turn starts, and nothing more is ever said of it."""
    server.answer_start()
    server.started()
    server.pause(600)


def silence(server: FakeServer, _prompt: str) -> None:
    """Not even `turn/start` is answered."""
    server.pause(600)


def ignore_interrupt(server: FakeServer, _prompt: str) -> None:
    """The turn runs on whatever the client asks."""
    server.answer_start()
    server.started()
    server.pause(600)


def ignore_signals(server: FakeServer, _prompt: str) -> None:
    """As `ignore_interrupt`, deaf to INT and TERM too, with a child in a session of its own."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)  # noqa: TID251 - left to be found
    server.answer_start()
    server.started()
    server.message(f"child {child.pid}", "msg_child")
    server.pause(600)


def refuse_steer(server: FakeServer, prompt: str) -> None:
    """The first turn takes its time; no steer is taken, as by a turn that is just ending."""
    server.answer_start()
    server.started()
    server.pause(0.3 if prompt == "first" else 0)
    say(server, f"heard: {prompt}", "msg_1")
    server.completed()


def flood(server: FakeServer, _prompt: str) -> None:
    """Numbered output and text as fast as the pipe takes it."""
    server.answer_start()
    server.started()
    show_command(server, "started", "tool_flood", "yes")
    for number in range(server.count):
        show_output(server, "tool_flood", f"line {number:06d}\n")
    show_command(server, "completed", "tool_flood", "yes", aggregatedOutput=None)
    for number in range(server.count):
        server.in_turn("item/agentMessage/delta", itemId="msg_1", delta=f"token-{number:06d} ")
    server.item("completed", type="agentMessage", id="msg_1", text=f"{server.count} tokens")
    server.completed()


def crash(server: FakeServer, _prompt: str) -> None:
    """The process ends in the middle of a turn."""
    server.answer_start()
    server.started()
    show_command(server, "started", "tool_crash", "make")
    sys.stderr.write("fatal: the fake was told to crash\n")
    sys.stderr.flush()
    os._exit(70)  # an orderly exit would wait for the reading thread


def huge_line(server: FakeServer, _prompt: str) -> None:
    """One line that is longer than any message may be."""
    server.answer_start()
    server.started()
    chunk = "x" * (1 << 20)
    for _ in range(70):
        server.write_raw(chunk)
    server.pause(600)


def stderr_flood(server: FakeServer, prompt: str) -> None:
    """Standard error is flooded; the turn goes on."""
    for number in range(server.count):
        sys.stderr.write(f"noise {number:06d} {'.' * 200}\n")
    sys.stderr.flush()
    default(server, prompt)


def approval(server: FakeServer, _prompt: str) -> None:
    """A command waits for an approval; the answer is told in the reply."""
    server.answer_start()
    server.started()
    show_command(server, "started", "tool_ask", "rm -rf build")
    reply = server.ask(
        "item/commandExecution/requestApproval", itemId="tool_ask", command="rm -rf build"
    )
    decision = reply.get("result", {}).get("decision")
    show_command(server, "completed", "tool_ask", "rm -rf build", status="declined")
    say(server, f"decision: {decision}", "msg_1")
    server.completed()


def every_request(server: FakeServer, _prompt: str) -> None:
    """Ask each kind of question, one after another; the reply is what came back, as JSON."""
    server.answer_start()
    server.started()
    replies = {
        method: server.ask(method, itemId=f"ask_{number}", **params)
        for number, (method, params) in enumerate(REQUESTS.items())
    }
    told = {method: reply.get("result", reply.get("error")) for method, reply in replies.items()}
    say(server, json.dumps(told, sort_keys=True), "msg_1")
    server.completed()


def withdrawn_request(server: FakeServer, _prompt: str) -> None:
    """Ask, then say that nobody needs to answer any more."""
    server.answer_start()
    server.started()
    wire_id = server.ask_only("item/fileChange/requestApproval", itemId="ask_1", reason="a patch")
    server.pause(TICK_SECONDS)
    server.notify("serverRequest/resolved", threadId=server.thread_id, requestId=wire_id)
    say(server, "went on without an answer", "msg_1")
    server.completed()


def echo_prompt(server: FakeServer, prompt: str) -> None:
    """Say the prompt everywhere, cut into pieces of three characters."""
    server.answer_start()
    server.started()
    show_command(server, "started", "tool_echo", f"echo {prompt}")
    for start in range(0, len(prompt), 3):
        piece = prompt[start : start + 3]
        show_output(server, "tool_echo", piece)
        server.in_turn("item/agentMessage/delta", itemId="msg_1", delta=piece)
        server.pause(0.02)
    show_command(server, "completed", "tool_echo", f"echo {prompt}", aggregatedOutput=prompt)
    server.item("completed", type="agentMessage", id="msg_1", text=prompt)
    server.completed()


def say(server: FakeServer, text: str, item_id: str) -> None:
    """One agent message in two pieces."""
    middle = len(text) // 2
    server.item("started", type="agentMessage", id=item_id, text="")
    for piece in (text[:middle], text[middle:]):
        server.in_turn("item/agentMessage/delta", itemId=item_id, delta=piece)
    server.item("completed", type="agentMessage", id=item_id, text=text)


def show_command(server: FakeServer, stage: str, item_id: str, command: str, **more: Any) -> None:
    """One stage of the item of a command."""
    status = "inProgress" if stage == "started" else "completed"
    facts: dict[str, Any] = {"status": status, "cwd": "/", "exitCode": None, **more}
    if stage == "completed" and facts["status"] == "completed":
        facts["exitCode"] = 0
    server.item(stage, type="commandExecution", id=item_id, command=command, **facts)


def show_output(server: FakeServer, item_id: str, delta: str) -> None:
    """A piece of what a command wrote."""
    server.in_turn("item/commandExecution/outputDelta", itemId=item_id, delta=delta)


def _usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    total = {
        "totalTokens": input_tokens + output_tokens,
        "inputTokens": input_tokens,
        "cachedInputTokens": 0,
        "outputTokens": output_tokens,
        "reasoningOutputTokens": 0,
    }
    return {"total": total, "last": total, "modelContextWindow": 100_000}


_DISCONNECTED = "stream disconnected before completion: error sending request"
_503 = "unexpected status 503 Service Unavailable: upstream connect error"

REQUESTS: dict[str, dict[str, Any]] = {
    "item/commandExecution/requestApproval": {
        "command": "rm -rf build",
        "cwd": "/work",
        "reason": "make room",
        "availableDecisions": ["accept", "decline", "cancel"],
    },
    "item/fileChange/requestApproval": {"reason": "outside of the workspace"},
    "item/permissions/requestApproval": {
        "cwd": "/work",
        "reason": "needs the network",
        "permissions": {"network": {"enabled": True}, "fileSystem": None},
    },
    "item/tool/requestUserInput": {
        "questions": [{"id": "colour", "header": "Colour", "question": "Which colour?"}],
        "isBlocking": True,
    },
    "mcpServer/elicitation/request": {
        "serverName": "loom",
        "mode": "form",
        "message": "How wide?",
        "requestedSchema": {
            "type": "object",
            "properties": {"width": {"type": "integer"}},
            "required": ["width"],
        },
    },
    "item/tool/call": {"callId": "call_1", "tool": "weave", "arguments": {"rows": 3}},
    "execCommandApproval": {"command": ["make", "clean"], "cwd": "/work"},
    "applyPatchApproval": {"reason": "an old patch", "fileChanges": {}},
    "currentTime/read": {},
    "attestation/generate": {},
}

SCRIPTS: dict[str, Script] = {
    "default": default,
    "require-danger-sandbox": default,
    "reject-unexpected-model": default,
    "require-explicit-model": default,
    "resume-no-rollout": default,
    "asks-at-start": default,
    "multi-agent-message-final": multi_agent_message,
    "web-search-progress": web_search,
    "slow-tool-events": slow_tool,
    "tool-hangs-before-turn-start-response": tool_hangs,
    "tool-progress-refreshes-idle": tool_progress,
    "noisy-reasoning-events": noisy_reasoning,
    "slow-progress-before-terminal": slow_progress,
    "missing-turn-result": missing_turn_result,
    "provider-401-rpc-error": partial(
        rpc_error, "unexpected status 401 Unauthorized: invalid api key", "other"
    ),
    "provider-429-terminal": partial(
        terminal_error,
        "exceeded retry limit, last status: 429 Too Many Requests",
        {"responseTooManyFailedAttempts": {"httpStatusCode": 429}},
    ),
    "provider-invalid-tool-call": partial(
        terminal_error,
        "unexpected status 400 Bad Request: invalid tool call: function arguments are not JSON",
        "badRequest",
    ),
    "provider-compact-404-terminal": partial(
        terminal_error,
        "Error running remote compact task: unexpected status 404 Not Found, "
        "url: http://provider/v1/responses/compact",
        {"httpConnectionFailed": {"httpStatusCode": 404}},
    ),
    "provider-stream-disconnected-rpc-error": partial(rpc_error, _DISCONNECTED, "other"),
    "provider-503-rpc-error": partial(rpc_error, _503, "other"),
    "provider-503-terminal": partial(
        terminal_error, _503, {"httpConnectionFailed": {"httpStatusCode": 503}}
    ),
    "provider-unavailable-terminal": partial(
        terminal_error, "The provider is currently unavailable.", "serverOverloaded"
    ),
    "provider-503-retry-event": partial(retry_then, "failed", _503),
    "provider-refused-retry-then-completed": partial(
        retry_then, "completed", "Connection refused (os error 111)"
    ),
    "invalid-json": invalid_json,
    "missing-terminal": missing_terminal,
    # Treadle's own
    "silence": silence,
    "flood": flood,
    "crash": crash,
    "huge-line": huge_line,
    "stderr-flood": stderr_flood,
    "ignore-interrupt": ignore_interrupt,
    "ignore-signals": ignore_signals,
    "refuse-steer": refuse_steer,
    "approval-request": approval,
    "every-request": every_request,
    "withdrawn-request": withdrawn_request,
    "echo-prompt": echo_prompt,
}
