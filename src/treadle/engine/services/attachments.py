"""Files that an input names, read for the model: images into data URLs, skills as texts."""

from pathlib import Path

from treadle.domain.items import LocalImageInput, UserInput

MAX_IMAGE_BYTES = 20 << 20
"""Larger files are not sent; providers refuse them anyway."""
MAX_SKILL_BYTES = 64 << 10


def load_images(content: list[UserInput]) -> dict[str, str]:
    """A data URL for each local image by its path, or a text saying why there is none."""
    return {part.path: _load(part.path) for part in content if isinstance(part, LocalImageInput)}


def _load(path: str) -> str:
    import base64
    import mimetypes

    kind = mimetypes.guess_type(path)[0] or "image/png"
    try:
        file = Path(path)
        if file.stat().st_size > MAX_IMAGE_BYTES:
            return (
                f"The image at `{path}` is larger than {MAX_IMAGE_BYTES >> 20} MB and was left out"
            )
        data = file.read_bytes()
    except OSError as error:
        reason = f"{error.strerror} (os error {error.errno})"
        return f"The local image at `{path}` could not be read: {reason}"
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def load_skill(path: str) -> str:
    """The text of a skill's file, or a text saying why there is none."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_SKILL_BYTES + 1)
    except OSError as error:
        return f"The skill at `{path}` could not be read: {error.strerror}"
    text = data[:MAX_SKILL_BYTES].decode(errors="replace").strip()
    return text if len(data) <= MAX_SKILL_BYTES else f"{text}\n[cut: read the file for the rest]"
