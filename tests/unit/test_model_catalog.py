"""What is assumed of known and unknown models."""

import pytest

from treadle.engine.model.catalog import CATALOG, DEFAULT_MODEL, ModelCard, find_model


def test_an_unknown_model_runs_with_common_settings():
    card = find_model("mock-model")
    assert not card.known
    assert card.usable_window_tokens == 258_400
    assert card.reasoning == {"summary": "auto"}
    assert card.text is None
    assert card.apply_patch
    assert card.parallel_tool_calls


def test_a_known_model_asks_for_its_own_effort_and_verbosity():
    card = find_model("gpt-5.5")
    assert card.known
    assert card.reasoning == {"effort": "medium"}
    assert card.text == {"verbosity": "low"}


def test_a_configured_window_wins():
    card = find_model("gpt-5.5", window_tokens=100_000)
    assert (card.usable_window_tokens, card.compact_at_tokens) == (95_000, 90_000)


def test_exactly_one_model_is_the_default_and_slugs_are_unique():
    assert [card.slug for card in CATALOG if card.is_default] == [DEFAULT_MODEL]
    assert len({card.slug for card in CATALOG}) == len(CATALOG)


@pytest.mark.parametrize("card", CATALOG, ids=lambda card: card.slug)
def test_a_listed_model_offers_its_default_effort(card: ModelCard):
    listing = card.listing()
    efforts = [option["reasoningEffort"] for option in listing["supportedReasoningEfforts"]]
    assert listing["defaultReasoningEffort"] in efforts
    assert listing["id"] == listing["model"] == card.slug
