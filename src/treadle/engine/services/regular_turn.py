"""The work of a turn that converses with the user; loaded with the first one."""

from typing import Any

from treadle.engine.agent.turn_loop import TurnLoop
from treadle.engine.agent.turn_parts import TurnParts
from treadle.engine.agent.turn_state import Steer
from treadle.engine.services.attachments import load_images, load_skill


def regular_turn(
    parts: TurnParts,
    steer: Steer | None,
    output_schema: Any = None,
    calls: tuple[dict[str, Any], ...] = (),
) -> TurnLoop:
    """A loop over model and tools.

    Args:
        parts: what the turn works with.
        steer: the input it begins with; None for one that goes on with `calls`.
        output_schema: JSON schema of the final message.
        calls: calls of the model that have no output yet.
    """
    return TurnLoop(
        parts,
        steer,
        load_images=load_images,
        load_skill=load_skill,
        output_schema=output_schema,
        calls=calls,
    )
