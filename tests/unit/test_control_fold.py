"""Status, command states and results as folds over a log."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.control.fold import (
    CommandChange,
    LogEvent,
    RunFold,
    fold_event,
    interrupt_target,
    moves_fold,
    refold,
    run_result,
    run_status,
)
from treadle.control.records import CLOSED_STATES, SessionRef


class Log:
    """A log under construction, folded as it grows."""

    def __init__(self) -> None:
        self.fold = RunFold(session=SessionRef(thread_id="t0"))
        self.events: list[LogEvent] = []
        self.changes: dict[str, CommandChange] = {}

    def add(self, type_: str, payload: dict[str, Any], command: str | None = None) -> None:
        event = LogEvent(len(self.events) + 1, type_, payload, command, self.fold.epoch or None)
        self.events.append(event)
        if moves_fold(type_, payload):
            self.changes.update((c.command_id, c) for c in fold_event("run", self.fold, event))

    def phase(self, phase: str, command: str | None = None, **payload: Any) -> None:
        self.add("backend_status", {"phase": phase, **payload}, command)

    def turn(self, command: str, type_: str = "turn", target: str | None = None) -> None:
        extra = {"targetCommandId": target} if target else {}
        self.phase("command-created", command, commandId=command, commandType=type_, **extra)

    def claim(self) -> None:
        self.phase("run-claimed", runnerId="a", epoch=self.fold.epoch + 1)

    def say(self, text: str, command: str | None = None) -> None:
        body = {"text": text, "source": "completed-agent-message"}
        self.add("assistant_message", body, command)

    @property
    def status(self) -> str:
        return run_status(self.fold)


def claimed_log() -> Log:
    log = Log()
    log.turn("c1")
    log.claim()
    log.phase("command-acknowledged", "c1")
    return log


def test_status_follows_the_life_of_a_turn() -> None:
    log = Log()
    seen = [log.status]
    log.turn("c1")
    seen.append(log.status)
    log.claim()
    seen.append(log.status)
    log.phase("command-acknowledged", "c1")
    seen.append(log.status)
    log.turn("i1", "interrupt", target="c1")
    seen.append(log.status)
    log.phase("command-terminal", "i1", state="completed")
    log.phase("command-terminal", "c1", state="cancelled")
    seen.append(log.status)
    log.phase("run-terminal", terminalStatus="cancelled")
    seen.append(log.status)
    expected = ["pending", "pending", "claimed", "running", "interrupting", "claimed", "cancelled"]
    assert seen == expected


def test_a_lost_lease_makes_open_work_wait_and_a_released_idle_run_stays_claimed() -> None:
    log = claimed_log()
    log.phase("run-lease-expired")
    assert log.status == "pending"
    log.claim()
    assert log.status == "running"
    log.phase("command-terminal", "c1", state="failed", failureKind="provider-http-error")
    log.phase("run-released")
    assert log.status == "claimed"
    assert log.fold.terminal_status is None
    assert log.fold.failure_kind is None


def test_the_reply_is_the_last_completed_message_never_a_delta() -> None:
    log = claimed_log()
    log.say("I am checking the workspace.", "c1")
    log.add("assistant_message", {"text": "par", "source": "agent-message-delta-progress"}, "c1")
    log.say("Final answer only.")
    log.phase("command-terminal", "c1", state="completed")
    result = log.changes["c1"].result
    assert result is not None
    assert result.reply == "Final answer only."
    assert run_result("run", log.fold, 9).reply == "Final answer only."


def test_a_turn_that_recovered_has_no_failure() -> None:
    log = claimed_log()
    log.add("error", {"failureKind": "provider-stream-disconnected", "willRetry": True}, "c1")
    log.add("error", {"failureKind": "provider-http-error", "message": "once"}, "c1")
    log.phase("command-terminal", "c1", state="completed", failureKind="provider-http-error")
    result = log.changes["c1"].result
    assert result is not None
    assert (result.completed, result.failure_kind, result.failure_message) == (True, None, None)
    assert result.failure is None


def test_a_failed_command_without_a_kind_takes_that_of_its_last_final_error() -> None:
    log = claimed_log()
    log.add("error", {"failureKind": "provider-http-error", "message": "HTTP 503"}, "c1")
    log.add("error", {"failureKind": "backend-timeout", "willRetry": True}, "c1")
    log.phase("command-terminal", "c1", state="failed")
    log.phase("run-terminal", terminalStatus="failed")
    result = log.changes["c1"].result
    assert result is not None
    assert (result.failure_kind, result.failure_message) == ("provider-http-error", "HTTP 503")
    assert result.failure is not None
    assert result.failure.retryable
    assert log.fold.failure_kind == "provider-http-error"


def test_a_failed_command_without_any_evidence_is_backend_unknown() -> None:
    log = claimed_log()
    log.phase("command-terminal", "c1", state="failed")
    assert log.changes["c1"].failure_kind == "backend-unknown"


def test_a_blocked_run_has_a_failed_command() -> None:
    log = claimed_log()
    log.phase("command-terminal", "c1", state="failed", failureKind="secret-unavailable")
    log.phase("run-terminal", terminalStatus="blocked", failureKind="secret-unavailable")
    result = log.changes["c1"].result
    assert result is not None
    assert (result.terminal_status, result.failure_kind) == ("failed", "secret-unavailable")
    assert log.fold.terminal_status == "blocked"


def test_the_thread_survives_a_failure_and_follows_a_start() -> None:
    log = claimed_log()
    log.phase("command-terminal", "c1", state="failed", failureKind="thread-resume-failed")
    assert log.fold.session.thread_id == "t0"
    log.phase("thread/start:completed", threadId="t1")
    assert run_result("run", log.fold, 5).session_ref.thread_id == "t1"


def test_usage_of_a_run_is_the_sum_over_its_commands() -> None:
    log = claimed_log()
    log.turn("c2")
    log.phase("command-terminal", "c1", state="completed", usage={"inputTokens": 3, "x": 1})
    log.phase(
        "command-terminal", "c2", state="completed", usage={"inputTokens": 4, "totalTokens": 9}
    )
    assert log.fold.usage == {"inputTokens": 7, "totalTokens": 9}


def test_the_end_of_a_run_closes_every_command() -> None:
    log = claimed_log()
    log.turn("c2")
    log.turn("x", "cancel")
    log.phase("run-terminal", terminalStatus="failed", failureKind="lease-lost")
    states = {key: (c.state, c.failure_kind) for key, c in log.changes.items()}
    assert states == {
        "c1": ("failed", "lease-lost"),
        "c2": ("cancelled", "cancelled"),
        "x": ("completed", None),
    }
    assert not log.fold.open


def test_an_interrupt_aims_at_the_named_then_the_delivered_then_the_oldest_turn() -> None:
    log = Log()
    log.turn("c1")
    log.turn("c2")
    log.claim()
    oldest = interrupt_target(log.fold, None)
    log.phase("command-acknowledged", "c2")
    delivered = interrupt_target(log.fold, None)
    named = interrupt_target(log.fold, "c1")
    assert [t.id if t else None for t in (oldest, delivered, named)] == ["c1", "c2", "c1"]
    assert interrupt_target(log.fold, "gone") is None


commands = st.sampled_from(["c1", "c2", "c3"])
steps = st.one_of(
    st.tuples(st.just("create"), commands, st.sampled_from(["turn", "interrupt", "cancel"])),
    st.tuples(st.just("claim"), commands, st.just("")),
    st.tuples(st.just("ack"), commands, st.just("")),
    st.tuples(st.just("say"), commands, st.just("")),
    st.tuples(st.just("close"), commands, st.sampled_from(sorted(CLOSED_STATES))),
    st.tuples(st.just("lapse"), commands, st.just("")),
    st.tuples(st.just("end"), commands, st.sampled_from(["completed", "failed", "blocked"])),
)


def play(log: Log, created: set[str], step: tuple[str, str, str]) -> None:
    kind, command, word = step
    if kind == "create" and command not in created:
        created.add(command)
        log.turn(command, word)
    elif kind == "claim":
        log.claim()
    elif kind == "ack":
        log.phase("command-acknowledged", command)
    elif kind == "say":
        log.say(f"at {len(log.events)}", command)
    elif kind == "close":
        log.phase("command-terminal", command, state=word)
    elif kind == "lapse":
        log.phase("run-lease-expired")
    elif kind == "end":
        log.phase("run-terminal", terminalStatus=word)


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, max_size=25))
def test_any_log_folds_alike_twice_and_is_terminal_at_most_once(
    script: list[tuple[str, str, str]],
) -> None:
    log = Log()
    closed: dict[str, str] = {}
    terminal: list[str] = []
    created: set[str] = set()
    for step in script:
        play(log, created, step)
        for command, change in log.changes.items():
            if change.state in CLOSED_STATES:
                assert closed.setdefault(command, change.state) == change.state
        if log.fold.terminal_status is not None:
            terminal.append(log.fold.terminal_status)
            assert not log.fold.open
    assert len(set(terminal)) <= 1
    again, changes = refold("run", SessionRef(thread_id="t0"), log.events)
    assert again == log.fold
    assert changes == log.changes


def test_a_question_is_open_until_it_is_settled_or_nobody_waits_for_its_answer() -> None:
    ends: list[dict[str, Any]] = [
        {"phase": "server-request-settled", "requestId": "1-1"},
        {"phase": "command-terminal", "commandId": "c1", "state": "completed"},
        {"phase": "run-lease-expired"},
        {"phase": "run-released"},
        {"phase": "run-terminal", "terminalStatus": "completed"},
    ]
    for end in ends:
        log = claimed_log()
        log.phase("server-request-opened", "c1", requestId="1-1", decisions=["accept"])
        assert (list(log.fold.requests), log.status) == (["1-1"], "needs-input")
        log.turn("i1", "interrupt", target="c1")
        assert log.status == "interrupting"
        log.add("backend_status", end)
        assert log.fold.requests == {}, end


def test_an_answer_that_is_open_at_the_end_of_its_run_is_rejected() -> None:
    log = claimed_log()
    log.turn("a1", "answer")
    log.phase("run-terminal", terminalStatus="completed")
    change = log.changes["a1"]
    assert change.state == "rejected"
    assert (change.failure_message or "").startswith("request-not-open: ")
