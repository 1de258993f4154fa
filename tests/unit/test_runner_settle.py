"""What an unattended run answers its backend."""

import pytest

from treadle.runner.settle import settle


@pytest.mark.parametrize(
    "method",
    [
        "item/commandExecution/requestApproval",
        "item/fileChange/requestApproval",
        "item/permissions/requestApproval",
        "mcpServer/elicitation/request",
        "execCommandApproval",
        "applyPatchApproval",
        "item/tool/call",
    ],
)
def test_nothing_is_approved(method: str) -> None:
    answer, decision = settle(method, 0.0)
    assert decision == "declined"
    text = repr(answer["result"])
    assert not {"accept", "approved", "acceptForSession"} & set(text.replace("'", " ").split())


def test_time_is_told_and_the_unknown_is_refused_by_name() -> None:
    assert settle("currentTime/read", 12.9) == ({"result": {"currentTimeAt": 12}}, "answered")
    answer, decision = settle("new/request", 0.0)
    assert decision == "refused"
    assert "new/request" in answer["error"]["message"]
