"""Run as a program: answer `thread/resume` as a fresh app-server does, then say what was loaded.

Prints one JSON object: the modules there are once the answer is in the client's hands, and of ours
the data classes and compiled patterns that they hold. What a server begins after its answer is
left out.

    python resume_footprint.py THREAD_ID     # TREADLE_HOME says where it is stored
"""

import asyncio
import re
import sys
from typing import Any

import msgspec

import treadle.cli.app_server as front

WAIT_SECONDS = 30.0


async def ask(channel: Any, number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request; what else is said meanwhile is passed over."""
    await channel.send([msgspec.json.encode({"id": number, "method": method, "params": params})])
    while True:
        for frame in await channel.receive():
            message = msgspec.json.decode(frame)
            if message.get("id") == number:
                return message


async def resume(thread_id: str) -> dict[str, Any]:
    """The answer to a client that asks for nothing but a stored thread."""
    from treadle.cli.wiring.engine import build_engine
    from treadle.kit.tasks import TaskScope
    from treadle.wire.transport.memory import memory_channels

    engine = build_engine(front.load_config(front.read_environment()))
    engine.services.threads.on_answered = lambda: None
    here, there = memory_channels()
    scope = TaskScope("server")
    scope.start(engine.app.serve(there), "connection")
    client = {"clientInfo": {"name": "footprint", "version": "1"}}
    await ask(here, 1, "initialize", client)
    await here.send([b'{"method":"initialized"}'])
    answer = await ask(here, 2, "thread/resume", {"threadId": thread_id})
    found = footprint()
    await here.close()
    await scope.close()
    await engine.close()
    return {**found, "answer": answer}


def footprint() -> dict[str, Any]:
    """What is loaded now."""
    ours = {name: module for name, module in sys.modules.items() if name.startswith("treadle")}
    held = [(name, what, value) for name in ours for what, value in vars(ours[name]).items()]
    return {
        "modules": sorted(sys.modules),
        "dataclasses": sorted(
            f"{name}.{what}"
            for name, what, value in held
            if isinstance(value, type)
            and value.__module__ == name
            and "__dataclass_fields__" in vars(value)
        ),
        "patterns": sorted(
            f"{name}.{what}" for name, what, value in held if isinstance(value, re.Pattern)
        ),
    }


if __name__ == "__main__":
    said = asyncio.run(asyncio.wait_for(resume(sys.argv[1]), WAIT_SECONDS))
    sys.stdout.buffer.write(msgspec.json.encode(said))
