"""`view_image`: shows the model an image file. What is no image is not sent."""

import base64
import os
import stat
from pathlib import Path
from typing import Any

import msgspec

from treadle.domain.items import ImageView
from treadle.engine.tools.arguments import BadArguments, read_arguments
from treadle.engine.tools.exec import absolute_path
from treadle.engine.tools.tool import ToolCall, ToolContext, ToolOutput
from treadle.engine.tools.tool_specs import VIEW_IMAGE

MAX_IMAGE_BYTES = 20 << 20
"""Larger images are refused: providers refuse them too, and base64 adds a third."""


class _ImageArguments(msgspec.Struct):
    path: str


class _NoImage(Exception):
    """The file cannot be shown; the text is for the model."""


class ViewImage:
    """The tool that looks at an image."""

    name = "view_image"

    @property
    def spec(self) -> dict[str, Any]:
        """The function as the model sees it."""
        return VIEW_IMAGE

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Read the image and hand it to the model."""
        try:
            wanted = read_arguments(call.arguments, _ImageArguments)
            path = absolute_path(wanted.path, context)
            url = _data_url(path)
        except (BadArguments, _NoImage) as error:
            return ToolOutput(text=str(error), success=False)
        item = ImageView(id=call.call_id, path=path)
        context.reporter.started(item)
        context.reporter.completed(item)
        return ToolOutput(content=[{"type": "input_image", "image_url": url, "detail": "original"}])


def _data_url(path: str) -> str:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            # Opening a pipe would wait for somebody to write to it.
            raise _NoImage(f"unable to show image at `{path}`: it is not a file")
        with Path(path).open("rb") as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
    except OSError as error:
        reason = f"{os.strerror(error.errno or 0)} (os error {error.errno})"
        raise _NoImage(f"unable to locate image at `{path}`: {reason}") from error
    if len(data) > MAX_IMAGE_BYTES:
        raise _NoImage(f"unable to show image at `{path}`: larger than {MAX_IMAGE_BYTES >> 20} MiB")
    kind = _kind(data)
    if kind is None:
        raise _NoImage(
            f"unable to process image at `{path}`: unsupported image format; "
            "png, jpeg, gif and webp can be viewed"
        )
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _kind(data: bytes) -> str | None:
    """The format by its first bytes; names of files lie."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None
