"""Claims, fences, admission: the pure decisions of the control plane."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.control import rules
from treadle.control.faults import CredentialMissing, InvalidRequest
from treadle.control.records import CommandRequest, RunRequest
from treadle.control.rules import LeaseFacts


def facts(**changes: object) -> LeaseFacts:
    base: dict[str, object] = {
        "epoch": 1,
        "runner_id": "a",
        "attempt_id": "1",
        "lease_until_ms": 1000,
        "producer_seq": 10,
        "last_end": None,
        "ended": False,
    }
    return LeaseFacts(**{**base, **changes})  # pyright: ignore[reportArgumentType]


def test_a_live_lease_refuses_another_runner_and_says_for_how_long() -> None:
    assert rules.decide_claim(facts(), "b", "1", 400) == rules.Held("a", 600)


def test_a_lease_is_over_at_its_last_millisecond() -> None:
    assert rules.decide_claim(facts(), "b", "1", 999) == rules.Held("a", 1)
    assert rules.decide_claim(facts(), "b", "1", 1000) == rules.Grant("expired")


def test_the_same_attempt_may_claim_again_but_another_attempt_of_the_runner_may_not() -> None:
    assert rules.decide_claim(facts(), "a", "1", 0) == rules.Grant("reclaimed")
    assert isinstance(rules.decide_claim(facts(), "a", "2", 0), rules.Held)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"runner_id": None, "epoch": 0}, "first"),
        ({"runner_id": None, "last_end": "released"}, "released"),
        ({"runner_id": None, "last_end": "expired"}, "expired"),
    ],
)
def test_a_run_that_nobody_holds_is_granted_with_the_reason(
    changes: dict[str, object], reason: str
) -> None:
    assert rules.decide_claim(facts(**changes), "b", None, 0) == rules.Grant(reason)


def test_an_ended_run_is_not_granted() -> None:
    assert rules.decide_claim(facts(ended=True, runner_id=None), "b", None, 0) == rules.Ended()


@given(
    epoch=st.integers(0, 4),
    current=st.integers(0, 4),
    known=st.integers(0, 8),
    first=st.integers(1, 10),
    count=st.integers(1, 5),
    ended=st.booleans(),
    held=st.booleans(),
)
def test_an_append_is_accepted_only_where_it_leaves_no_gap_and_repeats_nothing(
    epoch: int, current: int, known: int, first: int, count: int, ended: bool, held: bool
) -> None:
    state = facts(epoch=current, producer_seq=known, ended=ended, runner_id="a" if held else None)
    decision = rules.decide_append(state, epoch, first, count)
    if epoch != current or epoch == 0:
        assert decision == rules.Stale()
    elif isinstance(decision, rules.Accept):
        assert held
        assert not ended
        assert first + decision.skip == known + 1
        assert 0 <= decision.skip < count
    elif isinstance(decision, rules.Duplicate):
        assert first + count - 1 <= known
    elif isinstance(decision, rules.Gap):
        assert first > decision.expected == known + 1
    else:
        assert ended or not held


def test_a_batch_known_already_is_acknowledged_after_the_end_too() -> None:
    assert rules.decide_append(facts(ended=True, runner_id=None), 1, 9, 2) == rules.Duplicate()
    assert rules.decide_append(facts(ended=True, runner_id=None), 1, 11, 1) == rules.Ended()


def test_the_last_allowed_loss_of_a_lease_fails_the_run() -> None:
    assert rules.decide_lapse(facts(), 0, 2, 999) is None
    assert rules.decide_lapse(facts(), 0, 2, 1000) == "requeue"
    assert rules.decide_lapse(facts(), 1, 2, 1000) == "fail"


def run_request(profile: str | None, scope: object) -> RunRequest:
    body = {"backendProfile": profile, "executionPolicy": {"secretScope": scope}}
    return msgspec.convert(body, RunRequest)


def credential(profile: str) -> dict[str, object]:
    return {"profile": profile, "secretRef": {"name": "s", "keys": ["auth.json"]}}


@pytest.mark.parametrize(
    ("profile", "scope"),
    [
        ("deepseek", {"providerCredentials": [credential("codex")]}),
        ("minimax-m3", {"providerCredentials": [credential("deepseek")]}),
        ("demo", {"providerCredentials": []}),
        ("codex", {"allowCredentialEcho": False}),
    ],
)
def test_a_scope_without_the_profile_s_credential_is_refused(profile: str, scope: object) -> None:
    with pytest.raises(CredentialMissing, match="requires a matching provider credential"):
        rules.make_spec(run_request(profile, scope))


@pytest.mark.parametrize(
    ("profile", "scope"),
    [
        (None, None),
        ("deepseek", None),
        ("demo", {"allowCredentialEcho": False}),
        ("deepseek", {"providerCredentials": [credential("codex"), credential("deepseek")]}),
    ],
)
def test_a_run_with_its_credential_or_without_any_scope_is_taken(
    profile: str | None, scope: object
) -> None:
    assert rules.make_spec(run_request(profile, scope)).backend_profile == (profile or "codex")


def test_out_of_bounds_values_are_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        rules.make_spec(msgspec.convert({"executionPolicy": {"timeoutMs": 0}}, RunRequest))
    assert caught.value.path == "$.executionPolicy.timeoutMs"
    with pytest.raises(InvalidRequest):
        rules.lease_or_default(99, 15_000)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"type": "turn"}, "$.payload.prompt"),
        ({"type": "turn", "payload": {"prompt": "  "}}, "$.payload.prompt"),
        ({"type": "turn", "payload": {"prompt": "x", "model": 3}}, "$.payload.model"),
        ({"type": "turn", "payload": {"prompt": "x" * 300_000}}, "$.payload"),
    ],
)
def test_a_command_s_payload_is_checked_for_its_type(body: object, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        rules.check_command(msgspec.convert(body, CommandRequest))
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"phase": "command-terminal", "state": "done"}, "payload.state"),
        ({"phase": "command-terminal", "state": "pending"}, "payload.state"),
        ({"phase": "command-terminal", "state": ["failed"]}, "payload.state"),
        (
            {"phase": "command-terminal", "state": "failed", "failureKind": "oops"},
            "payload.failureKind",
        ),
        ({"phase": "run-terminal", "terminalStatus": "ok"}, "payload.terminalStatus"),
        ({"phase": "run-claimed", "epoch": 9}, "payload.phase"),
        ({"phase": "command-acknowledged", "commandId": "other"}, "commandId"),
    ],
)
def test_a_runner_cannot_write_what_has_no_meaning(payload: dict[str, object], field: str) -> None:
    named = None if "commandId" in payload else "c1"
    with pytest.raises(InvalidRequest) as caught:
        rules.check_status_event(payload, named, lambda known: known == "c1", "$.events[0]")
    assert caught.value.path == f"$.events[0].{field}"


@pytest.mark.parametrize(
    "payload",
    [
        {"phase": "command-acknowledged"},
        {"phase": "command-terminal", "state": "failed", "failureKind": "backend-timeout"},
        {"phase": "command-terminal", "state": "completed", "failureKind": None},
        {"phase": "turn/completed"},
        {"phase": 3},
        {},
    ],
)
def test_a_runner_may_write_the_phases_of_its_work(payload: dict[str, object]) -> None:
    rules.check_status_event(payload, "c1", lambda known: known == "c1", "$.events[0]")
