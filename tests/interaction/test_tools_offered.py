"""Which tools the model is told of follows from configuration and from what the client asks for."""

from pathlib import Path

import pytest

from support.app_lab import AppLab

COMMANDS = {"exec_command", "write_stdin"}
USUAL = COMMANDS | {"apply_patch", "update_plan", "view_image", "request_user_input"}


async def offered(folder: Path, config: dict[str, object] | None = None, **params: object):
    """Names of the tools that a thread with these settings offers to its model."""
    async with AppLab(folder, "memory") as lab:
        client = await lab.connect(experimental=True)
        thread = await lab.start_thread(client, config=config, **params)
        await lab.run_turn(client, thread)
        return {tool["name"] for tool in lab.provider.requests[-1].body.get("tools", [])}


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        ("features.shell_tool", COMMANDS),
        ("features.view_image", {"view_image"}),
        ("tools.view_image", {"view_image"}),
        ("tools.update_plan.enabled", {"update_plan"}),
        ("tools.experimental_request_user_input.enabled", {"request_user_input"}),
    ],
)
async def test_a_tool_that_is_switched_off_is_not_offered(
    tmp_path: Path, switch: str, gone: set[str]
):
    assert await offered(tmp_path, {switch: False}) & USUAL == USUAL - gone


async def test_a_thread_without_an_environment_reaches_neither_commands_nor_files(tmp_path: Path):
    left = await offered(tmp_path, environments=[])
    assert left & USUAL == {"update_plan", "request_user_input"}
