"""From the provider's output items to the items that people see. Pure."""

from typing import Any

from treadle.domain.items import ImageGeneration, Reasoning, WebSearch

_ACTIONS = {"search": "search", "open_page": "openPage", "find_in_page": "findInPage"}


def message_text(item: dict[str, Any]) -> str:
    """The text of an assistant message item, all its parts joined."""
    parts: list[dict[str, Any]] = item.get("content") or []
    return "".join(part.get("text", "") for part in parts if part.get("type") == "output_text")


def reasoning(item: dict[str, Any], item_id: str) -> Reasoning:
    """A reasoning item: readable summary parts and raw content."""
    return Reasoning(
        id=item_id,
        summary=_texts(item.get("summary")),
        content=_texts(item.get("content")),
    )


def _texts(parts: list[dict[str, Any]] | None) -> list[str]:
    return [part.get("text", "") for part in parts or []]


def web_search(item: dict[str, Any], item_id: str) -> WebSearch:
    """A web search that the provider carried out; `action` is null while it is not known."""
    action: dict[str, Any] = item.get("action") or {}
    kind = _ACTIONS.get(action.get("type", ""), "other")
    query = action.get("query") or ""
    shown: dict[str, Any] = {"type": kind}
    if kind == "search":
        shown |= {"query": query, "queries": action.get("queries")}
    elif kind == "openPage":
        shown |= {"url": action.get("url")}
    elif kind == "findInPage":
        shown |= {"url": action.get("url"), "pattern": action.get("pattern")}
    return WebSearch(id=item_id, query=query or action.get("url") or "", action=shown)


def generated_image(item: dict[str, Any], item_id: str, saved_path: str | None) -> ImageGeneration:
    """An image that the provider made and that lies at `saved_path` (None where it is not kept)."""
    return ImageGeneration(
        id=item_id,
        status=str(item.get("status") or "completed"),
        revised_prompt=item.get("revised_prompt"),
        result=str(item.get("result") or ""),
        saved_path=saved_path,
    )


_ID_PREFIXES = ("msg_", "rs_", "fc_", "ctc_", "ws_", "ig_")


def replayable(item: dict[str, Any]) -> dict[str, Any]:
    """An output item as it goes back to the provider.

    Its id stays only where it looks like one the provider made (references, 0.169.0); status is
    the provider's own bookkeeping.
    """
    dropped = {"status"} if item.get("type") != "web_search_call" else set[str]()
    if not str(item.get("id") or "").startswith(_ID_PREFIXES):
        dropped.add("id")
    return {key: value for key, value in item.items() if key not in dropped}
