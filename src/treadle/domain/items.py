"""Thread items: what a person sees of a turn, as one tagged union.

These shapes are promises twice over: they go to clients (Codex app-server protocol v2, all keys
present, null when unknown) and into stored threads. Owns the vocabulary alone; how an item comes
about is the agent's business.
"""

from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType


class Shape(msgspec.Struct, rename="camel", kw_only=True, gc=False):
    """Base of the protocol's objects: camelCase names on the wire."""


class FrozenShape(msgspec.Struct, rename="camel", kw_only=True, gc=False, frozen=True):
    """The same for values that never change once made."""


class TextElement(Shape, kw_only=True):
    """A span of a text input that stands for something else (a mention, a placeholder)."""

    byte_range: Any = None
    placeholder: str | None = None


class TextInput(Shape, tag="text", kw_only=True):
    """Typed text. `text_elements` is snake_case on the wire, as the references have it."""

    text: str
    text_elements: list[Any] = msgspec.field(default=[], name="text_elements")


class ImageInput(Shape, tag="image", omit_defaults=True, kw_only=True):
    """An inline image as a data URL."""

    url: str
    detail: str | None = None


class LocalImageInput(Shape, tag="localImage", omit_defaults=True, kw_only=True):
    """An image file on the server's machine."""

    path: str
    detail: str | None = None


class AudioInput(Shape, tag="audio", kw_only=True):
    """Inline audio as a data URL."""

    url: str


class LocalAudioInput(Shape, tag="localAudio", kw_only=True):
    """An audio file on the server's machine."""

    path: str


class SkillInput(Shape, tag="skill", kw_only=True):
    """A skill whose text joins the turn."""

    name: str
    path: str


class MentionInput(Shape, tag="mention", kw_only=True):
    """A mention of an app or plugin."""

    name: str
    path: str


UserInput = (
    TextInput
    | ImageInput
    | LocalImageInput
    | AudioInput
    | LocalAudioInput
    | SkillInput
    | MentionInput
)


class Item(Shape, kw_only=True):
    """Base of what a turn consists of: when it began and ended, absent where nobody noted it.

    Unix milliseconds (0.169.0; clients of 0.129.0 pass over them).
    """

    started_at_ms: int | UnsetType = UNSET
    completed_at_ms: int | UnsetType = UNSET


class UserMessage(Item, tag="userMessage", kw_only=True):
    """What the user said at the start of a turn, or while steering it."""

    id: str
    client_id: str | None = None
    content: list[UserInput]


class AgentMessage(Item, tag="agentMessage", kw_only=True):
    """Text of the model. `delivery`, `questions` and `moderation` stay null here."""

    id: str
    text: str
    phase: str | None = None
    memory_citation: Any = None


class Plan(Item, tag="plan", kw_only=True):
    """A proposed plan of plan mode."""

    id: str
    text: str


class Reasoning(Item, tag="reasoning", kw_only=True):
    """The model's reasoning: readable summary parts, and raw content where a provider shows it."""

    id: str
    summary: list[str] = []
    content: list[str] = []


class CommandExecution(Item, tag="commandExecution", kw_only=True):
    """A command of the agent or the user; `duration_ms` and `exit_code` are set once it ended."""

    id: str
    command: str
    cwd: str
    process_id: str | None = None
    source: str = "agent"
    status: str = "inProgress"
    command_actions: list[dict[str, Any]] = []
    aggregated_output: str | None = None
    exit_code: int | None = None
    duration_ms: int | None = None


class FileUpdate(Shape, kw_only=True):
    """One changed file: absolute path, kind of change, and content (add, delete) or hunks."""

    path: str
    kind: dict[str, Any]
    diff: str


class FileChange(Item, tag="fileChange", kw_only=True):
    """A patch to files."""

    id: str
    changes: list[FileUpdate]
    status: str = "inProgress"


class McpToolCall(Item, tag="mcpToolCall", kw_only=True):
    """A call of an MCP server's tool."""

    id: str
    server: str
    tool: str
    status: str = "inProgress"
    arguments: Any = None
    result: Any = None
    error: Any = None
    duration_ms: int | None = None


class DynamicToolCall(Item, tag="dynamicToolCall", kw_only=True):
    """A call of a tool that the client declared and answers itself."""

    id: str
    namespace: str | None = None
    tool: str
    arguments: Any = None
    status: str = "inProgress"
    content_items: list[Any] | None = None
    success: bool | None = None
    duration_ms: int | None = None


class CollabAgentToolCall(Item, tag="collabAgentToolCall", kw_only=True):
    """One agent's dealings with another: spawn, message, wait, close."""

    id: str
    tool: str
    status: str
    sender_thread_id: str
    receiver_thread_ids: list[str]
    prompt: str | None = None
    model: str | None = None
    reasoning_effort: str | None = None
    agents_states: dict[str, Any] = {}


class WebSearch(Item, tag="webSearch", kw_only=True):
    """A search that the provider carried out."""

    id: str
    query: str = ""
    action: Any = None


class ImageView(Item, tag="imageView", kw_only=True):
    """An image that the agent looked at."""

    id: str
    path: str


class ImageGeneration(Item, tag="imageGeneration", kw_only=True):
    """An image that the provider made: `result` is its base64, `saved_path` where it is kept."""

    id: str
    status: str = "completed"
    revised_prompt: str | None = None
    result: str = ""
    saved_path: str | None = None
    failure: Any = None
    generation_id: str | None = None
    transparent_background: bool | None = None
    input_images: list[Any] = []


class EnteredReviewMode(Item, tag="enteredReviewMode", kw_only=True):
    """A review began."""

    id: str
    review: str


class ExitedReviewMode(Item, tag="exitedReviewMode", kw_only=True):
    """A review ended with this text."""

    id: str
    review: str


class ContextCompaction(Item, tag="contextCompaction", kw_only=True):
    """The model's context was compacted here."""

    id: str


ThreadItem = (
    UserMessage
    | AgentMessage
    | Plan
    | Reasoning
    | CommandExecution
    | FileChange
    | McpToolCall
    | DynamicToolCall
    | CollabAgentToolCall
    | WebSearch
    | ImageView
    | ImageGeneration
    | EnteredReviewMode
    | ExitedReviewMode
    | ContextCompaction
)
"""Every item this program makes."""

StoredItem = Any
"""A ThreadItem, or the raw object of another program's item that this one does not know."""


def item_id(item: StoredItem) -> str:
    """The id of an item, empty where another program's item has none."""
    try:
        return item.id
    except AttributeError:
        entry = cast("dict[str, object]", item) if isinstance(item, dict) else {}
        return str(entry.get("id", ""))


def with_times(
    item: StoredItem, started_at_ms: int | None, completed_at_ms: int | None
) -> StoredItem:
    """An item that says when it began and ended, as far as that is known: the same one if ours."""
    if isinstance(item, Item):
        if started_at_ms is not None:
            item.started_at_ms = started_at_ms
        if completed_at_ms is not None:
            item.completed_at_ms = completed_at_ms
    elif isinstance(item, dict):
        entry = cast("dict[str, Any]", item)
        return {**entry, "startedAtMs": started_at_ms, "completedAtMs": completed_at_ms}
    return item


def times_of(item: StoredItem) -> tuple[int | None, int | None]:
    """When an item began and ended; None where nobody noted it."""
    if isinstance(item, dict):
        entry = cast("dict[str, Any]", item)
        return entry.get("startedAtMs"), entry.get("completedAtMs")
    began = getattr(item, "started_at_ms", UNSET)
    ended = getattr(item, "completed_at_ms", UNSET)
    return (None if began is UNSET else began), (None if ended is UNSET else ended)


def input_text(content: list[UserInput]) -> str:
    """What a list of inputs says in words: text parts joined, `[Image]` when there are only images.

    The preview rule of the references (0.129.0, 0.169.0): parts join without a separator, and text
    up to and including a line `## My request for Codex:` is left out.
    """
    text = "".join(part.text for part in content if isinstance(part, TextInput))
    if not text and any(isinstance(part, ImageInput | LocalImageInput) for part in content):
        return "[Image]"
    _, marker, request = text.partition("## My request for Codex:")
    return request.strip() if marker else text
