"""`approval/*`: looking at approvals and answering them without having been asked."""

import msgspec

from treadle.appserver.context import Context
from treadle.appserver.handlers.thread_session import check_id, client_of
from treadle.appserver.server_requests import as_request, read_answer
from treadle.engine.services.approvals import Approval
from treadle.wire.protocol import approvals as proto
from treadle.wire.protocol.errors import invalid_params


async def list_approvals(
    context: Context, params: proto.ApprovalListParams
) -> proto.ApprovalListResult:
    """What is open, and what was settled where that is wanted."""
    if params.thread_id is not None:
        check_id(params.thread_id)
    found = await context.services.approvals().list(
        params.thread_id, settled=params.include_settled
    )
    return proto.ApprovalListResult(data=[_view(approval) for approval in found])


async def answer(
    context: Context, params: proto.ApprovalAnswerParams
) -> proto.ApprovalAnswerResult:
    """Answer a question; the thread is loaded for it where it is not."""
    check_id(params.thread_id)
    approvals = context.services.approvals()
    found = await approvals.find(params.thread_id, params.request_id)
    method, _ = as_request(found.asked.question)
    given = read_answer(found.asked.question, msgspec.json.encode(params.result))
    if given is None:
        raise invalid_params(f"`result` is no answer to {method}")
    settled = await approvals.answer(params.thread_id, params.request_id, given, client_of(context))
    return proto.ApprovalAnswerResult(approval=_view(settled))


def _view(approval: Approval) -> proto.ApprovalView:
    asked, settled = approval.asked, approval.settled
    question = asked.question
    method, params = as_request(question)
    view = proto.ApprovalView(
        thread_id=question.thread_id,
        turn_id=question.turn_id,
        item_id=question.item_id,
        request_id=asked.request_id,
        method=method,
        params=params,
        effect=question.effect,
        deadline_at=asked.deadline_at,
        default=asked.default,
    )
    if settled is not None:
        view.status, view.by, view.reason = "settled", settled.by, settled.reason
        view.answer = settled.answer
    return view
