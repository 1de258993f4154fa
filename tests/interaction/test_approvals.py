"""Approvals: who is asked what, what the answers do, and what several clients hear of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import calls, custom_tool_call, function_call, reply
from treadle.wire.client.client import Event

ASK = "item/commandExecution/requestApproval"
ASK_FILE = "item/fileChange/requestApproval"
FULL = {"type": "dangerFullAccess"}
CAREFUL = {"approvalPolicy": "untrusted", "sandboxPolicy": FULL}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[AppLab]:
    async with AppLab(tmp_path, "memory") as lab:
        yield lab


def command(script: str, call_id: str = "c1", **more: Any) -> dict[str, Any]:
    return function_call("exec_command", {"cmd": script, "login": False, **more}, call_id)


def add_file(name: str, call_id: str = "p1") -> dict[str, Any]:
    text = f"*** Begin Patch\n*** Add File: {name}\n+one\n*** End Patch"
    return custom_tool_call("apply_patch", text, call_id)


async def asked(client: LabClient, method: str = ASK) -> Event:
    """The next request of the server."""
    while True:
        event = await client.next_event()
        client.heard.append(event)
        if event.wants_answer:
            assert event.method == method
            return event


async def finished(client: LabClient) -> dict[str, Any]:
    done = await client.until("turn/completed")
    return done["turn"]


def questions(client: LabClient) -> list[str]:
    return [event.params["itemId"] for event in client.heard if event.wants_answer]


def item(client: LabClient, item_id: str, kind: str = "item/completed") -> dict[str, Any]:
    found = [e.params["item"] for e in client.heard if e.method == kind]
    [one] = [entry for entry in found if entry["id"] == item_id]
    return one


def output(lab: AppLab, call_id: str, request: int = -1) -> str:
    for entry in lab.provider.requests[request].body["input"]:
        if entry.get("call_id") == call_id and entry["type"].endswith("_output"):
            return entry["output"]
    raise AssertionError(f"no output of {call_id}")


async def begin(lab: AppLab, *steps: Any, policy: dict[str, Any] = CAREFUL) -> LabClient:
    """A client whose turn runs these steps."""
    lab.provider.script(*steps)
    client = await lab.connect(experimental=True)
    thread_id = await lab.start_thread(client, model="gpt-5.5")
    await client.request("turn/start", turn(thread_id, **policy))
    return client


# ------------------------------------------------------------------ answers


async def test_accepted_command_runs_once_after_one_started_item(lab: AppLab):
    client = await begin(lab, calls(command("echo run >> log.txt")))
    question = await asked(client)
    assert not (lab.work / "log.txt").exists()
    assert question.params["availableDecisions"] == [
        "accept",
        "acceptForSession",
        "decline",
        "cancel",
    ]
    client.respond(question, {"decision": "accept"})
    assert (await finished(client))["status"] == "completed"
    assert (lab.work / "log.txt").read_text() == "run\n"
    assert item(client, "c1", "item/started")["processId"] is None
    assert item(client, "c1")["status"] == "completed"


@pytest.mark.parametrize(
    ("answer", "item_status", "turn_status", "told"),
    [
        ("decline", "declined", "completed", "rejected by user"),
        ("cancel", "declined", "interrupted", None),
        ("perhaps", "failed", "completed", "approval request failed"),
        (None, "failed", "completed", "approval request failed"),
    ],
)
async def test_command_that_is_not_accepted_never_runs(
    lab: AppLab, answer: str | None, item_status: str, turn_status: str, told: str | None
):
    client = await begin(lab, calls(command("touch a.txt")))
    question = await asked(client)
    if answer is None:
        client.fail(question, "nobody here")
    else:
        client.respond(question, {"decision": answer})
    assert (await finished(client))["status"] == turn_status
    assert item(client, "c1")["status"] == item_status
    assert not (lab.work / "a.txt").exists()
    methods = client.methods()
    assert methods.index("serverRequest/resolved") < len(methods) - 1
    if told is not None:
        assert told in output(lab, "c1")


async def test_interrupt_takes_the_question_back_and_completes_the_item(lab: AppLab):
    client = await begin(lab, calls(command("touch a.txt")))
    question = await asked(client)
    ids = {"threadId": question.params["threadId"], "turnId": question.params["turnId"]}
    await client.request("turn/interrupt", ids)
    assert (await finished(client))["status"] == "interrupted"
    assert item(client, "c1")["status"] == "declined"
    resolved = [e.params for e in client.heard if e.method == "serverRequest/resolved"]
    assert [p["requestId"] for p in resolved] == [msgspec.json.decode(question.raw_id or b"")]
    client.respond(question, {"decision": "accept"})
    await client.settle()
    assert not (lab.work / "a.txt").exists()


async def test_what_is_accepted_for_the_session_is_not_asked_again(lab: AppLab):
    client = await begin(
        lab,
        calls(command("touch a.txt", "c1")),
        calls(command("touch a.txt", "c2"), command("touch b.txt", "c3")),
    )
    client.respond(await asked(client), {"decision": "acceptForSession"})
    client.respond(await asked(client), {"decision": "decline"})
    await finished(client)
    assert questions(client) == ["c1", "c3"]
    assert item(client, "c2")["status"] == "completed"


async def test_rule_that_was_accepted_is_kept_and_told_to_the_model(lab: AppLab):
    client = await begin(
        lab, calls(command("touch a.txt", "c1")), calls(command("touch b.txt", "c2"))
    )
    question = await asked(client)
    assert question.params["proposedExecpolicyAmendment"] == ["touch", "a.txt"]
    amendment = {"execpolicy_amendment": ["touch"]}
    client.respond(question, {"decision": {"acceptWithExecpolicyAmendment": amendment}})
    await finished(client)
    assert questions(client) == ["c1"]
    assert (lab.work / "b.txt").exists()
    rules = (lab.home / "rules" / "default.rules").read_text()
    assert rules == 'prefix_rule(pattern=["touch"], decision="allow")\n'
    notes = [
        entry["content"][0]["text"]
        for entry in lab.provider.requests[1].body["input"]
        if entry.get("role") == "developer"
    ]
    assert any(note.startswith("Approved command prefix saved:") for note in notes)


# ------------------------------------------------------------------ who is asked when


async def test_plain_readers_run_unasked_under_untrusted(lab: AppLab):
    (lab.work / "a.txt").write_text("words\n")
    client = await begin(lab, calls(command("cat a.txt | wc -l && ls")))
    await finished(client)
    assert questions(client) == []
    assert item(client, "c1")["status"] == "completed"


async def test_forced_delete_is_asked_about_even_with_full_access(lab: AppLab):
    (lab.work / "a.txt").write_text("words\n")
    policy = {"approvalPolicy": "on-request", "sandboxPolicy": FULL}
    client = await begin(lab, calls(command("rm -rf a.txt")), policy=policy)
    client.respond(await asked(client), {"decision": "decline"})
    await finished(client)
    assert (lab.work / "a.txt").exists()


async def test_forced_delete_is_refused_where_nobody_may_be_asked(lab: AppLab):
    (lab.work / "a.txt").write_text("words\n")
    policy = {"approvalPolicy": "never", "sandboxPolicy": FULL}
    client = await begin(lab, calls(command("rm -rf a.txt")), policy=policy)
    await finished(client)
    assert questions(client) == []
    assert (lab.work / "a.txt").exists()
    assert "rejected" in output(lab, "c1")
    told = [event.params["message"] for event in client.heard if event.method == "warning"]
    assert "a command was declined by policy" in told[-1]


async def test_rules_of_the_home_folder_forbid_and_allow(lab: AppLab):
    (lab.home / "rules").mkdir()
    (lab.home / "rules" / "my.rules").write_text(
        'prefix_rule(pattern=["touch"], decision="allow")\n'
        'prefix_rule(pattern=["curl"], decision="forbidden", justification="no network")\n'
    )
    client = await begin(
        lab, calls(command("touch a.txt", "c1"), command("curl http://localhost:1", "c2"))
    )
    await finished(client)
    assert questions(client) == []
    assert (lab.work / "a.txt").exists()
    assert "no network" in output(lab, "c2")


async def test_broken_rules_are_ignored_with_a_warning_and_stop_nothing(lab: AppLab):
    (lab.home / "rules").mkdir()
    (lab.home / "rules" / "bad.rules").write_text("import os\n")
    client = await begin(lab, calls(command("touch a.txt")))
    client.respond(await asked(client), {"decision": "accept"})
    assert (await finished(client))["status"] == "completed"
    warnings = [e.params["message"] for e in client.heard if e.method == "warning"]
    assert any("bad.rules: line 1" in text for text in warnings)


async def test_question_that_nobody_answers_is_declined_at_its_deadline(tmp_path: Path):
    async with AppLab(tmp_path, "memory", extra="approval_timeout_secs = 1") as lab:
        client = await begin(lab, calls(command("touch a.txt")))
        await asked(client)
        assert (await finished(client))["status"] == "completed"
        assert item(client, "c1")["status"] == "declined"
        assert "nobody answered within 1 s" in output(lab, "c1")
        assert "serverRequest/resolved" in client.methods()


# ------------------------------------------------------------------ patches


async def test_patch_is_applied_only_once_accepted(lab: AppLab):
    client = await begin(lab, calls(add_file("a.txt")))
    question = await asked(client, ASK_FILE)
    assert not (lab.work / "a.txt").exists()
    client.respond(question, {"decision": "accept"})
    await finished(client)
    assert (lab.work / "a.txt").read_text() == "one\n"
    assert item(client, "p1")["status"] == "completed"


async def test_declined_patch_changes_nothing(lab: AppLab):
    client = await begin(lab, calls(add_file("a.txt")))
    client.respond(await asked(client, ASK_FILE), {"decision": "decline"})
    assert (await finished(client))["status"] == "completed"
    assert item(client, "p1")["status"] == "declined"
    assert output(lab, "p1") == "patch rejected by user"


async def test_patch_whose_file_changed_meanwhile_is_not_forced_in(lab: AppLab):
    (lab.work / "a.txt").write_text("one\n")
    text = "*** Begin Patch\n*** Update File: a.txt\n@@\n-one\n+two\n*** End Patch"
    client = await begin(lab, calls(custom_tool_call("apply_patch", text, "p1")))
    question = await asked(client, ASK_FILE)
    (lab.work / "a.txt").write_text("another\n")
    client.respond(question, {"decision": "accept"})
    await finished(client)
    assert item(client, "p1")["status"] == "failed"
    assert (lab.work / "a.txt").read_text() == "another\n"


# ------------------------------------------------------------------ several clients


async def two_clients(lab: AppLab) -> tuple[LabClient, LabClient, str]:
    first, second = await lab.connect(), await lab.connect()
    lab.provider.script(reply("hello"))
    thread_id = await lab.start_thread(first)
    await lab.run_turn(first, thread_id)
    return first, second, thread_id


async def test_first_answer_of_two_clients_wins(lab: AppLab):
    first, second, thread_id = await two_clients(lab)
    await second.request("thread/resume", {"threadId": thread_id})
    lab.provider.script(calls(command("touch a.txt")))
    await first.request("turn/start", turn(thread_id, **CAREFUL))
    here, there = await asked(first), await asked(second)
    assert here.raw_id == there.raw_id
    second.respond(there, {"decision": "accept"})
    await first.until("serverRequest/resolved")
    first.respond(here, {"decision": "cancel"})
    assert (await finished(first))["status"] == "completed"
    assert (lab.work / "a.txt").exists()


async def test_client_that_cannot_answer_does_not_refuse_for_the_other(lab: AppLab):
    first, second, thread_id = await two_clients(lab)
    await second.request("thread/resume", {"threadId": thread_id})
    lab.provider.script(calls(command("touch a.txt")))
    await first.request("turn/start", turn(thread_id, **CAREFUL))
    here, there = await asked(first), await asked(second)
    second.fail(there, "not supported")
    await second.settle()
    assert "serverRequest/resolved" not in second.methods()
    first.respond(here, {"decision": "accept"})
    await finished(first)
    assert (lab.work / "a.txt").exists()


async def test_open_question_is_put_to_a_client_that_joins(lab: AppLab):
    first, second, thread_id = await two_clients(lab)
    lab.provider.script(calls(command("touch a.txt")))
    await first.request("turn/start", turn(thread_id, **CAREFUL))
    here = await asked(first)
    joined = await second.request("thread/resume", {"threadId": thread_id})
    assert joined["thread"]["status"]["activeFlags"] == ["waitingOnApproval"]
    there = await asked(second)
    assert there.raw_id == here.raw_id
    await first.close()
    second.respond(there, {"decision": "accept"})
    assert (await finished(second))["status"] == "completed"


async def test_answer_of_a_client_that_was_not_asked_is_nothing(lab: AppLab):
    first, second, thread_id = await two_clients(lab)
    lab.provider.script(calls(command("touch a.txt")))
    await first.request("turn/start", turn(thread_id, **CAREFUL))
    here = await asked(first)
    second.respond(here, {"decision": "accept"})
    await second.settle()
    first.respond(here, {"decision": "decline"})
    await finished(first)
    assert not (lab.work / "a.txt").exists()


# ------------------------------------------------------------------ no sandbox


async def test_a_machine_without_a_sandbox_is_told_to_clients_and_never_shown_to_the_model(
    tmp_path: Path,
):
    extra = 'sandbox_backend = "bubblewrap"'
    nowhere = {"PATH": str(tmp_path / "nowhere")}
    async with AppLab(tmp_path, "memory", extra=extra, variables=nowhere) as lab:
        config = lab.home / "config.toml"
        text = config.read_text().replace('"danger-full-access"', '"workspace-write"')
        config.write_text(text)
        lab.provider.script(calls(command("touch a.txt")))
        client = await lab.connect()
        thread_id = await lab.start_thread(client, model="gpt-5.5")
        warning = await client.until("configWarning")
        assert "not enforced: no sandbox can be enforced here: bubblewrap" in warning["details"]
        assert "To mend it: install bubblewrap" in warning["details"]
        late = await lab.connect()
        assert await late.until("configWarning") == warning

        await client.request("turn/start", turn(thread_id))
        assert (await finished(client))["status"] == "completed"
        assert "tell the user to run `treadle doctor`" in output(lab, "c1")
        assert "bubblewrap" not in output(lab, "c1")
        assert item(client, "c1")["status"] == "failed"
        assert not (lab.work / "a.txt").exists()
