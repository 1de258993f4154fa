"""Compaction as rules: what is summarised, what stays, and when a new context will do. Pure.

A context that grew too large is replaced by an opening, the user's own words and a summary. Images
go before words, old words before new ones, and cutting without a summary is the last resort. A new
context counts only when it is enough smaller than the old one. Asks no model and keeps nothing.
"""

from collections.abc import Iterator
from typing import Any, cast

from treadle.engine.agent import prompt

Items = list[dict[str, Any]]

SUMMARY_PROMPT = (
    "The context of this work is nearly full and is about to be replaced by your summary. Write "
    "what somebody needs who carries on without having seen any of it:\n"
    "- what the user wants, with every condition they set;\n"
    "- what was done and found so far, with file names, commands and results that matter;\n"
    "- decisions and their reasons, and what was tried in vain;\n"
    "- what is left to do, and the very next step.\n"
    "Be brief and exact. Do not go on with the work now; answer with the summary alone."
)
"""What the model is asked unless `compact_prompt` says otherwise."""

LEAD_IN = (
    "The conversation before this point was replaced by a summary, to make room. Rely on it, do "
    "not repeat work that it tells of, and go on from there:\n\n"
)
_LEAD_IN_ELSEWHERE = "Another language model started to solve this problem"
_CUT_NOTE = (
    "The older part of the conversation was left out to make room, without a summary. Look again "
    "at what you need from it."
)
_IMAGE_GONE = {"type": "input_text", "text": "[an image was left out to make room]"}

USER_WORDS_TOKENS = 20_000
"""How much of the user's own words a new context keeps, the latest first."""
SMALL_TOKENS = 6_000
"""A context as small as this is never the trouble; no gain is asked of it."""
MIN_GAIN = 0.2
"""Share of the old context by which a new one must be smaller."""
IMAGE_TOKENS = 1_500
_IMAGES = ("input_image", "image_generation_call")
CHARS_PER_TOKEN = 4

_FRAMES = (
    "<environment_context>",
    "# AGENTS.md instructions",
    "<skill>",
    "<turn_aborted>",
    "<user_shell_command>",
    "<user_action>",
    "<subagent_notification>",
    "<codex_internal_context",
    LEAD_IN[:40],
    _LEAD_IN_ELSEWHERE,
    _CUT_NOTE[:40],
)
"""How user messages begin that no user wrote."""


def estimate_tokens(items: Items) -> int:
    """A rough size: a token per four characters, and a fixed price per image."""
    return sum(_weigh(item) for item in items)


def _weigh(value: Any) -> int:
    if isinstance(value, str):
        return -(-len(value) // CHARS_PER_TOKEN)
    if isinstance(value, list):
        return sum(_weigh(entry) for entry in cast("list[Any]", value))
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        if fields.get("type") in _IMAGES:
            return IMAGE_TOKENS
        return sum(_weigh(entry) for entry in fields.values())
    return 1


def attempts(history: Items) -> Iterator[Items]:
    """What to have summarised, each smaller than the one before: the first that fits will do.

    All of it; then without images; then without more and more of the oldest part.
    """
    yield history
    bare = without_images(history)
    if bare != history:
        yield bare
    for share in (0.25, 0.5, 0.75, 0.9):
        yield without_oldest(bare, share)


def without_images(items: Items) -> Items:
    """The items with a word in the place of each image, and without images the model made."""
    return [_imageless(item) for item in items if item.get("type") not in _IMAGES]


def _imageless(item: dict[str, Any]) -> dict[str, Any]:
    for key in ("content", "output"):
        parts: Any = item.get(key)
        if isinstance(parts, list):
            changed = [_word_for(part) for part in cast("list[Any]", parts)]
            if changed != parts:
                item = {**item, key: changed}
    return item


def _word_for(part: Any) -> Any:
    if isinstance(part, dict) and cast("dict[str, Any]", part).get("type") == "input_image":
        return _IMAGE_GONE
    return cast("Any", part)


def without_oldest(items: Items, share: float) -> Items:
    """The items less the oldest `share` of their size; developer messages all stay."""
    surplus = estimate_tokens(items) * share
    kept: Items = []
    for item in items:
        if surplus > 0 and item.get("role") != "developer":
            surplus -= _weigh(item)
        else:
            kept.append(item)
    return kept


def summarised(opening: Items, history: Items, summary: str) -> Items | None:
    """The context that replaces `history`; None when none made with this summary is a gain.

    Args:
        opening: what the model must be told in any case.
        history: the context so far.
        summary: the model's own words about it.
    """
    if not summary.strip():
        return None
    words = [item for item in history if _is_user_word(item)]
    closing = prompt.message("user", LEAD_IN + summary.strip())
    for kept in _choices(words):
        candidate = [*opening, *kept, closing]
        if is_gain(history, candidate):
            return candidate
    return None


def _choices(words: Items) -> Iterator[Items]:
    yield _latest(words, USER_WORDS_TOKENS)
    words = without_images(words)
    for budget in (USER_WORDS_TOKENS, USER_WORDS_TOKENS // 4, 0):
        yield _latest(words, budget)


def _latest(items: Items, budget_tokens: int) -> Items:
    """The latest items that fit, in order."""
    kept: Items = []
    for item in reversed(items):
        budget_tokens -= _weigh(item)
        if budget_tokens < 0:
            break
        kept.append(item)
    return kept[::-1]


def _is_user_word(item: dict[str, Any]) -> bool:
    if item.get("type") != "message" or item.get("role") != "user":
        return False
    parts: list[dict[str, Any]] = item.get("content") or []
    first: str = next((part.get("text", "") for part in parts if part.get("text")), "")
    return not first.startswith(_FRAMES)


def cut(opening: Items, history: Items, budget_tokens: int) -> Items | None:
    """The last resort: the opening and the newest part of `history`; None when that is no gain.

    Whole calls only: what lost its other half is left out (see `prompt.normalise`).
    """
    fixed = [*opening, prompt.message("developer", _CUT_NOTE)]
    told = [item for item in without_images(history) if item.get("role") != "developer"]
    newest = _latest(told, max(0, budget_tokens - estimate_tokens(fixed)))
    candidate = [*fixed, *prompt.normalise(newest)]
    return candidate if is_gain(history, candidate) else None


def is_gain(old: Items, new: Items) -> bool:
    """Whether `new` is enough smaller than `old`, or so small that it does not matter."""
    tokens = estimate_tokens(new)
    return tokens <= SMALL_TOKENS or tokens <= estimate_tokens(old) * (1 - MIN_GAIN)
