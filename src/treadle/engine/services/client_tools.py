"""Tools of clients as the threads service takes them: refused when badly declared.

What knows of them is loaded for the first thread that has some.
"""

from typing import Any

from treadle.engine.services.errors import Refused
from treadle.engine.tools.tool import Tools


def check_client_tools(declared: list[dict[str, Any]] | None) -> None:
    """Check what a client declares for a new thread; raises Refused with what is wrong."""
    if not declared:
        return
    from treadle.engine.tools.client_tools import BadDeclaration, check_declarations

    try:
        check_declarations(declared)
    except BadDeclaration as error:
        raise Refused(str(error)) from error


def with_client_tools(tools: Tools, declared: list[dict[str, Any]] | None) -> Tools:
    """`tools` and those that a client declared; a broken declaration in a log counts as none."""
    if not declared:
        return tools
    from treadle.engine.tools.client_tools import BadDeclaration, ClientTools, check_declarations

    try:
        check_declarations(declared)
    except BadDeclaration:
        return tools
    return ClientTools(tools, declared)
