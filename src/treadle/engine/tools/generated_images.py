"""Images that a model's provider made, kept as files below the home folder."""

import base64
import binascii
import logging
import re
from pathlib import Path

logger = logging.getLogger(__name__)

FOLDER = "generated_images"
_UNSAFE = r"[^A-Za-z0-9_-]"


def save_image(home: str, thread_id: str, item_id: str, data: str) -> str | None:
    """Keep an image (base64); its path, or None when it cannot be kept."""
    if not home:
        return None
    folder = Path(home) / FOLDER / re.sub(_UNSAFE, "_", thread_id)
    # The id is the provider's: it may not choose the place.
    file = folder / f"{re.sub(_UNSAFE, '_', item_id)[:100]}.png"
    try:
        content = base64.b64decode(data, validate=True)
        folder.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except (OSError, binascii.Error, ValueError) as error:
        logger.warning("a generated image was not kept: %s", error)
        return None
    return str(file)
