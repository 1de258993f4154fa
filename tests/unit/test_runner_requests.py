"""What a backend may ask, what each decision answers, and what a run decides alone."""

from typing import Any

import pytest

from treadle.runner.manager_types import ExecutionPolicy
from treadle.runner.requests import (
    ContentInvalid,
    Question,
    RequestPolicy,
    answer_alone,
    answer_to,
    policy_of,
    question_of,
)
from treadle.testing.fake_scripts import REQUESTS

ASKED = [method for method, params in REQUESTS.items() if question_of(method, params)]


def question(method: str, **params: Any) -> Question:
    found = question_of(method, {**REQUESTS[method], **params})
    assert found is not None
    return found


def test_every_kind_of_question_is_known() -> None:
    assert set(REQUESTS) - set(ASKED) == {"currentTime/read", "attestation/generate"}


@pytest.mark.parametrize("method", ASKED)
def test_nothing_is_approved_by_default(method: str) -> None:
    decision = question(method).settled_by("decline")
    assert decision == "decline"
    text = repr(answer_to(method, REQUESTS[method], decision, None))
    assert not {"accept", "approved", "acceptForSession"} & set(text.replace("'", " ").split())


@pytest.mark.parametrize("method", ASKED)
def test_a_default_of_accept_counts_only_where_it_needs_nothing_more(method: str) -> None:
    asked = question(method)
    assert asked.settled_by("accept") == ("decline" if asked.needs_content else "accept")


def test_a_command_can_be_declined_although_the_backend_does_not_offer_it() -> None:
    asked = question("item/commandExecution/requestApproval", availableDecisions=["accept"])
    assert asked.decisions == ("accept", "decline")
    assert asked.settled_by("cancel") == "decline"


def test_a_decision_that_brings_a_rule_is_named_by_its_word_and_sent_whole() -> None:
    method = "item/commandExecution/requestApproval"
    rule = {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["make"]}}
    params = {**REQUESTS[method], "availableDecisions": ["accept", rule, "decline"]}
    found = question_of(method, params)
    assert found is not None
    assert found.decisions == ("accept", "acceptWithExecpolicyAmendment", "decline")
    answer = answer_to(method, params, "acceptWithExecpolicyAmendment", None)
    assert answer == {"decision": rule}


def test_permissions_are_granted_as_asked_for_a_turn_or_the_session() -> None:
    method = "item/permissions/requestApproval"
    wanted = REQUESTS[method]["permissions"]
    accepted = answer_to(method, REQUESTS[method], "accept", None)
    assert accepted == {"permissions": wanted, "scope": "turn"}
    lasting = answer_to(method, REQUESTS[method], "acceptForSession", None)
    assert lasting == {"permissions": wanted, "scope": "session"}
    assert answer_to(method, REQUESTS[method], "decline", None)["permissions"] == {}


def test_a_form_takes_answers_by_question() -> None:
    method = "item/tool/requestUserInput"
    answer = answer_to(method, REQUESTS[method], "accept", {"colour": ["blue"], "size": "big"})
    assert answer == {"answers": {"colour": {"answers": ["blue"]}, "size": {"answers": ["big"]}}}


@pytest.mark.parametrize(
    ("method", "content"),
    [
        ("item/tool/requestUserInput", None),
        ("item/tool/call", {"text": "no items"}),
        ("mcpServer/elicitation/request", {"height": 3}),
    ],
)
def test_accepting_without_the_content_it_needs_is_refused(method: str, content: Any) -> None:
    with pytest.raises(ContentInvalid):
        answer_to(method, REQUESTS[method], "accept", content)


def test_an_approval_of_a_tool_call_shows_the_call_and_can_last() -> None:
    meta = {"persist": ["session"], "tool_name": "weave", "tool_params": {"rows": 3}}
    params = {"serverName": "loom", "message": "Allow?", "requestedSchema": {}, "_meta": meta}
    found = question_of("mcpServer/elicitation/request", params)
    assert found is not None
    assert (found.details["tool"], found.details["arguments"]) == ("weave", {"rows": 3})
    assert not found.needs_content
    answer = answer_to("mcpServer/elicitation/request", params, "acceptForSession", None)
    assert answer["_meta"] == {"persist": "session"}


def test_old_approvals_are_answered_in_their_own_words() -> None:
    words = [
        answer_to("execCommandApproval", {}, decision, None)["decision"]
        for decision in ("accept", "acceptForSession", "decline", "cancel")
    ]
    assert words == ["approved", "approved_for_session", "denied", "abort"]


def test_details_are_bounded() -> None:
    method = "item/commandExecution/requestApproval"
    found = question(method, command="x" * 100_000, parsed=["y" * 100_000])
    assert len(found.summary) <= 500
    assert len(repr(found.details)) < 20_000


def test_time_is_told_and_the_unknown_is_refused_by_name() -> None:
    assert answer_alone("currentTime/read", 12.9) == ({"result": {"currentTimeAt": 12}}, "answered")
    answer, decision = answer_alone("new/request", 0.0)
    assert decision == "refused"
    assert "new/request" in answer["error"]["message"]


def policy(**facts: Any) -> RequestPolicy:
    return policy_of(ExecutionPolicy(**facts))


def test_a_run_waits_for_people_only_where_its_agent_may_ask() -> None:
    assert not policy().is_attended
    assert not policy(approval="never").is_attended
    assert policy(approval="on-request").wait_seconds == 3600
    assert not policy(approval="on-request", answer_timeout_ms=0).is_attended
    assert policy(approval="never", answer_timeout_ms=500).wait_seconds == 0.5
    assert policy(answer_default="cancel").default == "cancel"
