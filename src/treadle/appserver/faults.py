"""What a client learns of each exception that services raise."""

from treadle.engine.services import errors
from treadle.wire.protocol.errors import (
    INTERNAL,
    RpcError,
    invalid_params,
    invalid_request,
    unsupported,
)


def translate(error: Exception) -> RpcError | None:
    """The wire error of a service's exception; None for what is unexpected."""
    match error:
        case errors.InputTooLarge() | errors.NotSteerable() | errors.TurnInTheWay():
            return _about_input(error)
        case errors.NotOpen(data=data):
            return invalid_request(str(error), data)
        case errors.ThreadIsArchived(thread_id=thread_id):
            return invalid_request(
                f"session {thread_id} is archived. "
                f"Run `codex unarchive {thread_id}` to unarchive it first."
            )
        case errors.Unsupported():
            return unsupported(str(error))
        case errors.StartFailed() | errors.NoSearchFolders() | errors.FeedbackFailed():
            return RpcError(INTERNAL, str(error))
        case errors.McpFailed(code=code):
            return RpcError(INTERNAL if code is None else code, str(error))
        case errors.StorageFailed():
            return RpcError(INTERNAL, f"failed to read thread: {error}")
        case errors.ConfigRejected(message=message, code=code, internal=internal):
            data = {"config_write_error_code": code} if code else None
            return RpcError(INTERNAL, message) if internal else invalid_request(message, data)
        case (
            errors.ThreadNotFound()
            | errors.WriterConflict()
            | errors.InvalidQuery()
            | errors.PlanRejected()
            | errors.Refused()
            | errors.NoGitDiff()
        ):
            return invalid_request(str(error))
        case _:
            return None


def _about_input(error: Exception) -> RpcError:
    match error:
        case errors.InputTooLarge(data=data):
            return invalid_params(str(error), data)
        case errors.NotSteerable(data=data):
            return invalid_request(str(error), data)
        case _:
            return RpcError(INTERNAL, str(error))
