"""What is known of models: windows, efforts, tools, and how a client's picker shows them.

Data alone. A slug that is not listed gets the same treatment as codex 0.169.0 gives it, with one
difference: `apply_patch` is offered to it too. Models that only work through another tool protocol
than the threads' own (code mode) are not listed; they run as unknown ones.
"""

from typing import Any

import msgspec

NOMINAL_WINDOW_TOKENS = 272_000
USABLE_WINDOW_PERCENT = 95
"""The rest is kept for the answer and for what a token estimate misses."""
COMPACT_AT_PERCENT = 90
"""Share of the nominal window at which a thread is compacted unless configured otherwise."""

_EFFORTS = (
    ("low", "Answers soonest; thinks least."),
    ("medium", "Balances speed and depth; right for most tasks."),
    ("high", "Thinks longer about hard problems."),
    ("xhigh", "Thinks as long as it takes; for the hardest problems."),
)


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One model."""

    slug: str
    display_name: str
    description: str = ""
    hidden: bool = False
    is_default: bool = False
    efforts: tuple[tuple[str, str], ...] = _EFFORTS
    """Names and descriptions of the reasoning efforts it takes."""
    default_effort: str = "medium"
    verbosity: str | None = "low"
    """Sent as `text.verbosity`; None for models that do not know it."""
    summary: str | None = None
    """Sent as `reasoning.summary` unless configured."""
    input_modalities: tuple[str, ...] = ("text", "image")
    window_tokens: int = NOMINAL_WINDOW_TOKENS
    parallel_tool_calls: bool = True
    apply_patch: bool = True
    """Whether the freeform patch tool is offered."""
    known: bool = True
    """False for the stand-in of a slug that is not in the catalog."""

    @property
    def usable_window_tokens(self) -> int:
        """What a thread may fill: 258,400 of the usual 272,000."""
        return self.window_tokens * USABLE_WINDOW_PERCENT // 100

    @property
    def compact_at_tokens(self) -> int:
        """Size of a thread at which it is compacted by default."""
        return self.window_tokens * COMPACT_AT_PERCENT // 100

    @property
    def reasoning(self) -> dict[str, Any]:
        """`reasoning` of a request that configures nothing."""
        if not self.known:
            return {"summary": "auto"}
        chosen: dict[str, Any] = {"effort": self.default_effort}
        return chosen if self.summary is None else {**chosen, "summary": self.summary}

    @property
    def text(self) -> dict[str, Any] | None:
        """`text` of a request that configures nothing."""
        return None if self.verbosity is None else {"verbosity": self.verbosity}

    def listing(self) -> dict[str, Any]:
        """The protocol's `Model` object, valid under 0.129.0 and 0.169.0."""
        return {
            "id": self.slug,
            "model": self.slug,
            "upgrade": None,
            "upgradeInfo": None,
            "availabilityNux": None,
            "displayName": self.display_name,
            "description": self.description,
            "modelSpecialty": None,
            "hidden": self.hidden,
            "supportedReasoningEfforts": [
                {"reasoningEffort": name, "description": text} for name, text in self.efforts
            ],
            "defaultReasoningEffort": self.default_effort,
            "inputModalities": list(self.input_modalities),
            "supportsPersonality": False,
            "multiAgentVersion": None,
            "additionalSpeedTiers": [],
            "serviceTiers": [],
            "defaultServiceTier": None,
            "availableAccessPrograms": None,
            "isDefault": self.is_default,
        }


CATALOG: tuple[ModelCard, ...] = (
    ModelCard(
        slug="gpt-5.5",
        display_name="GPT-5.5",
        description="General model for long coding and agent work.",
        is_default=True,
    ),
    ModelCard(
        slug="gpt-5.4",
        display_name="GPT-5.4",
        description="Predecessor of GPT-5.5 with the same tools.",
    ),
    ModelCard(
        slug="gpt-5.4-mini",
        display_name="GPT-5.4 mini",
        description="Smaller and cheaper; for short, well described tasks.",
        verbosity="medium",
    ),
    ModelCard(
        slug="gpt-5.3-codex",
        display_name="GPT-5.3 Codex",
        description="Tuned for code; less for prose.",
    ),
    ModelCard(
        slug="gpt-5.2",
        display_name="GPT-5.2",
        description="Older general model.",
    ),
)
"""Known models in the order of a picker."""

_BY_SLUG = {card.slug: card for card in CATALOG}

DEFAULT_MODEL = next(card.slug for card in CATALOG if card.is_default)
"""The model of a configuration that names none."""


def find_model(slug: str, *, window_tokens: int | None = None) -> ModelCard:
    """The card of `slug`; a stand-in with `known=False` when the catalog has none.

    Args:
        slug: as configured or asked for.
        window_tokens: the configured context window, which wins over the catalog's.
    """
    card = _BY_SLUG.get(slug) or ModelCard(
        slug=slug,
        display_name=slug,
        description="Not in the catalog; common settings are assumed.",
        hidden=True,
        verbosity=None,
        known=False,
    )
    return (
        card
        if window_tokens is None
        else msgspec.structs.replace(card, window_tokens=window_tokens)
    )
