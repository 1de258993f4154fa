"""Questions of a turn to whoever watches its thread, and what may be answered.

The vocabulary of approvals, forms and client-side tools: each question has its own kind of answer.
Says nothing of how a question reaches a client or what happens without one.
"""

from typing import Any, Literal

import msgspec

from treadle.domain.items import FrozenShape, Shape
from treadle.domain.threads import ActiveFlag


class Question(msgspec.Struct, kw_only=True, frozen=True):
    """Base: a question belongs to one item of one turn."""

    thread_id: str
    turn_id: str
    item_id: str
    asked_at_ms: int = 0
    """Unix milliseconds."""
    effect: str = ""
    """Digest of exactly what a yes lets happen; made of the question where the asker gives none."""


class CommandQuestion(Question, kw_only=True, frozen=True):
    """May this command run? Accepted, it runs once and outside the sandbox."""

    command: str
    """As people see it."""
    cwd: str
    actions: tuple[dict[str, Any], ...] = ()
    reason: str | None = None
    """Why, in the model's words."""
    amendment: tuple[str, ...] | None = None
    """A command prefix that could be allowed for good; None where none is proposed."""


class FileQuestion(Question, kw_only=True, frozen=True):
    """May this patch, whose item is already shown, be applied?"""

    reason: str | None = None


class PermissionQuestion(Question, kw_only=True, frozen=True):
    """May the commands of this turn or session do more than their sandbox allows?"""

    cwd: str
    reason: str | None
    read: tuple[str, ...]
    write: tuple[str, ...]
    network: bool | None


class FormQuestion(Question, kw_only=True, frozen=True):
    """The agent asks the user; `blocking` when its work cannot go on without."""

    questions: tuple[dict[str, Any], ...]
    blocking: bool


class ToolQuestion(Question, kw_only=True, frozen=True):
    """The client is to carry out one of its own tools; `item_id` is the call's id."""

    namespace: str | None
    tool: str
    arguments: Any


class ElicitationQuestion(Question, kw_only=True, frozen=True):
    """An MCP server asks the user, or a call of one of its tools is to be approved.

    `turn_id` is empty for a call that no turn makes. With `url` the user is to open a page, else to
    fill in a form.
    """

    server: str
    message: str
    requested_schema: dict[str, Any] | None = None
    url: str | None = None
    elicitation_id: str | None = None
    meta: Any = None


class AllowPrefix(FrozenShape, frozen=True, kw_only=True):
    """The command prefix that a decision allows from now on."""

    execpolicy_amendment: tuple[str, ...] = msgspec.field(name="execpolicy_amendment")


class AcceptWithRule(FrozenShape, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accept, and allow a prefix for good."""

    accept_with_execpolicy_amendment: AllowPrefix


CommandDecision = Literal["accept", "acceptForSession", "decline", "cancel"] | AcceptWithRule


class CommandAnswer(Shape, kw_only=True):
    """What was decided about a command."""

    decision: CommandDecision


class FileAnswer(Shape, kw_only=True):
    """What was decided about a patch."""

    decision: Literal["accept", "acceptForSession", "decline", "cancel"]


class NetworkGrant(Shape, kw_only=True):
    """Whether the network may be used."""

    enabled: bool | None = None


class FileGrant(Shape, kw_only=True):
    """Paths that may be read or written."""

    read: list[str] | None = None
    write: list[str] | None = None


class Grant(Shape, kw_only=True):
    """What was granted; what is left out was not."""

    network: NetworkGrant | None = None
    file_system: FileGrant | None = None


class PermissionAnswer(Shape, kw_only=True):
    """What commands may do from now on, and for how long."""

    permissions: Grant
    scope: Literal["turn", "session"] = "turn"


class FormField(Shape, kw_only=True):
    """The answers to one question of a form."""

    answers: list[str]


class FormAnswer(Shape, kw_only=True):
    """Answers by the id of their question."""

    answers: dict[str, FormField]


class ToolText(FrozenShape, tag="inputText", frozen=True, kw_only=True):
    """A text that a client's tool gave."""

    text: str


class ToolImage(FrozenShape, tag="inputImage", frozen=True, kw_only=True):
    """An image that a client's tool gave, as a data URL."""

    image_url: str


class ToolAnswer(Shape, kw_only=True):
    """What a client's tool came to."""

    content_items: list[ToolText | ToolImage]
    success: bool


class ElicitationAnswer(Shape, kw_only=True):
    """What the user made of an MCP server's question."""

    action: Literal["accept", "decline", "cancel"]
    content: Any = None
    meta: Any = msgspec.field(name="_meta", default=None)


Answer = CommandAnswer | FileAnswer | PermissionAnswer | FormAnswer | ToolAnswer | ElicitationAnswer

ANSWERS: dict[type[Question], Any] = {
    CommandQuestion: CommandAnswer,
    FileQuestion: FileAnswer,
    PermissionQuestion: PermissionAnswer,
    FormQuestion: FormAnswer,
    ToolQuestion: ToolAnswer,
    ElicitationQuestion: ElicitationAnswer,
}
"""The kind of answer to each kind of question."""

WAITING: dict[type[Question], ActiveFlag] = {
    CommandQuestion: "waitingOnApproval",
    FileQuestion: "waitingOnApproval",
    PermissionQuestion: "waitingOnApproval",
    FormQuestion: "waitingOnUserInput",
    ElicitationQuestion: "waitingOnApproval",
}
"""What a thread's status says while a question is open; nothing for a client's own tool."""
