"""Rate limits from a provider's answer headers, in the protocol's `rateLimits` shape. Pure."""

from collections.abc import Mapping
from typing import Any

_PREFIX = "x-codex-"


def read_rate_limits(headers: Mapping[str, str]) -> dict[str, Any] | None:
    """The limits that `headers` (names in lower case) tell of; None when they tell of none."""
    primary, secondary = _window(headers, "primary"), _window(headers, "secondary")
    credit = _credits(headers)
    if primary is None and secondary is None and credit is None:
        return None
    return {
        "limitId": headers.get(f"{_PREFIX}limit-id", "codex"),
        "limitName": headers.get(f"{_PREFIX}limit-name"),
        "primary": primary,
        "secondary": secondary,
        "credits": credit,
        "planType": None,
        "rateLimitReachedType": None,
    }


def _window(headers: Mapping[str, str], name: str) -> dict[str, int | None] | None:
    used = _number(headers.get(f"{_PREFIX}{name}-used-percent"))
    if used is None:
        return None
    return {
        "usedPercent": used,
        "windowDurationMins": _number(headers.get(f"{_PREFIX}{name}-window-minutes")),
        "resetsAt": _number(headers.get(f"{_PREFIX}{name}-reset-at")),
    }


def _credits(headers: Mapping[str, str]) -> dict[str, Any] | None:
    has_credits = headers.get(f"{_PREFIX}credits-has-credits")
    if has_credits is None:
        return None
    return {
        "hasCredits": has_credits.strip().lower() == "true",
        "unlimited": headers.get(f"{_PREFIX}credits-unlimited", "").strip().lower() == "true",
        "balance": headers.get(f"{_PREFIX}credits-balance"),
    }


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return round(float(text))
    except (ValueError, OverflowError):
        return None
