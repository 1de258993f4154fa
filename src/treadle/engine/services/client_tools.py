"""Tools of clients as the threads service takes them: refused when badly declared."""

from typing import Any

from treadle.engine.services.errors import Refused
from treadle.engine.tools.client_tools import (
    BadDeclaration,
    check_declarations,
    with_client_tools,
)

__all__ = ["check_client_tools", "with_client_tools"]


def check_client_tools(declared: list[dict[str, Any]] | None) -> None:
    """Check what a client declares for a new thread; raises Refused with what is wrong."""
    try:
        check_declarations(declared or [])
    except BadDeclaration as error:
        raise Refused(str(error)) from error
