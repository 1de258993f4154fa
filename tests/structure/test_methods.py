"""The method table is complete, served, documented and tested."""

import re
from pathlib import Path

import msgspec
import pytest

from treadle.appserver.app import HANDLERS
from treadle.appserver.projection import _PROJECTIONS
from treadle.appserver.server_requests import _REQUESTS
from treadle.domain import events, questions
from treadle.wire.protocol import codec, reference
from treadle.wire.protocol.errors import INVALID_REQUEST, RpcError
from treadle.wire.protocol.method_spec import MethodSpec
from treadle.wire.protocol.methods import METHODS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OFFERED = [spec for spec in METHODS.values() if spec.offered]
WITHOUT_LANE = {
    "initialize",  # nothing can wait for it: all else is refused before it
    "thread/start",  # its thread does not exist yet
    "thread/list",
    "thread/loaded/list",
    "thread/turns/list",
    "thread/items/list",
    "thread/items/read",
    "thread/events/list",
    "thread/backgroundTerminals/list",
    "thread/search",
    "thread/searchOccurrences",
    "model/list",
    "turn/interrupt",
}


def names(kind: str, version: str) -> set[str]:
    return set((HERE / "names" / f"{kind}_{version}.txt").read_text().split())


@pytest.mark.parametrize("version", ["0.129.0", "0.169.0"])
def test_every_method_of_a_reference_version_has_a_row(version: str):
    known = names("client_requests", version)
    assert len(known) > 100
    assert known - set(METHODS) == set()


def test_every_offered_method_has_a_handler_and_every_handler_a_row():
    assert set(HANDLERS) == {spec.name for spec in OFFERED}


def test_rows_stand_under_their_own_name():
    assert [name for name, spec in METHODS.items() if spec.name != name] == []


@pytest.mark.parametrize("spec", OFFERED, ids=lambda spec: spec.name)
def test_empty_parameters_are_taken_or_the_missing_field_is_named(spec: MethodSpec):
    if spec.params is None:
        codec.check_no_params(b"{}")
        return
    required = {
        field.encode_name for field in msgspec.structs.fields(spec.params) if field.required
    }
    if not required:
        assert isinstance(codec.decode_params(b"{}", spec.params), spec.params)
        return
    with pytest.raises(RpcError) as raised:
        codec.decode_params(b"{}", spec.params)
    assert raised.value.code == INVALID_REQUEST
    found = re.fullmatch(r"Invalid request: missing field `(\w+)`", raised.value.message)
    assert found is not None, raised.value.message
    assert found[1] in required


@pytest.mark.parametrize("spec", OFFERED, ids=lambda spec: spec.name)
def test_lanes_and_gated_fields_name_real_parameters(spec: MethodSpec):
    fields = (
        {f.name: f.encode_name for f in msgspec.structs.fields(spec.params)} if spec.params else {}
    )
    if spec.lane is not None and spec.lane.field is not None:
        assert spec.lane.field in fields
    for attribute, wire_name in spec.experimental_fields:
        assert fields[attribute] == wire_name


def test_every_offered_method_has_a_result_type():
    assert [spec.name for spec in OFFERED if spec.result is None] == []


def test_reads_of_append_only_data_and_interrupts_wait_for_nothing():
    waiting = {spec.name for spec in OFFERED if spec.lane is not None}
    assert waiting & WITHOUT_LANE == set()
    lists = {
        spec.name for spec in OFFERED if spec.name.startswith("thread/") and "list" in spec.name
    }
    # The queue is changed by turns: who lists it waits for what changes it (0.169.0).
    assert lists & waiting == {"thread/queue/list"}


def test_every_offered_method_is_named_by_an_interaction_test():
    files = sorted((ROOT / "tests" / "interaction").glob("test_*.py"))
    text = "\n".join(path.read_text() for path in files)
    untested = [spec.name for spec in OFFERED if f'"{spec.name}"' not in text]
    assert untested == []


def test_every_event_has_a_projection():
    kinds = {
        kind
        for kind in vars(events).values()
        if isinstance(kind, type)
        and issubclass(kind, events.ThreadEvent)
        and kind is not events.ThreadEvent
    }
    # A raised question becomes a request to the client; a joining agent only subscribes; of one
    # that rests nobody hears.
    untold = {events.RequestRaised, events.AgentJoined, events.ThreadRested}
    assert set(_PROJECTIONS) == kinds - untold


def test_every_question_has_a_request_and_a_kind_of_answer():
    kinds = {
        kind
        for kind in vars(questions).values()
        if isinstance(kind, type)
        and issubclass(kind, questions.Question)
        and kind is not questions.Question
    }
    assert set(_REQUESTS) == kinds
    assert set(questions.ANSWERS) == kinds


def test_notifications_carry_names_of_the_references():
    source = ROOT / "src" / "treadle" / "appserver" / "projection.py"
    told = set(re.findall(r'"([a-z]\w*(?:/\w+)+|error|warning)"', source.read_text()))
    assert len(told) > 20
    known = names("server_notifications", "0.129.0") | names("server_notifications", "0.169.0")
    assert {name for name in told if not name.endswith("reasoning/textDelta")} - known == set()


def test_the_reference_page_is_current():
    written = (ROOT / "docs" / "protocol.md").read_text()
    assert written == reference.page(), (
        "docs/protocol.md is stale; run `python -m treadle.wire.protocol.reference`"
    )
