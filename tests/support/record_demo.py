"""Records the demonstration's cassette anew: `python tests/support/record_demo.py`.

Plays a scripted provider to the real app-server, with real tools on a fresh copy of the sample, and
keeps what went back and forth. Run it after a change of the sample or of what tools answer.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from support.fake_provider import (
    FakeProvider,
    Step,
    completed,
    created,
    custom_tool_call,
    function_call,
    message,
)
from treadle.cli.demo import DATA, PROMPT
from treadle.cli.headless import connected
from treadle.cli.wiring.engine import build_engine
from treadle.config.environment import Environment
from treadle.config.load import load_config

TEST = "python3 -m unittest -q 2>&1 | grep -E '^(FAIL|AssertionError|Ran|OK)'"

FIRST_PATCH = """\
*** Begin Patch
*** Update File: slugs.py
@@
 \"\"\"Titles as parts of web addresses.\"\"\"

+import re
+

 def slugify(title: str) -> str:
     \"\"\"`title` in lower case, with one hyphen between words.\"\"\"
-    return title.lower().replace(" ", "-")
+    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
*** End Patch"""

SECOND_PATCH = """\
*** Begin Patch
*** Update File: slugs.py
@@ def unique(slug: str, taken: set[str]) -> str:
-    number = 1
-    while slug in taken:
+    free, number = slug, 1
+    while free in taken:
         number += 1
-        slug = f"{slug}-{number}"
-    return slug
+        free = f"{slug}-{number}"
+    return free
*** End Patch"""

ANSWER = """\
The tests pass now: 3 of 3.

- `slugify` only replaced single spaces. It now turns every run of other characters into one hyphen
  and leaves none at the ends.
- `unique` appended to the slug it had already numbered (`loom-2-3`). It now numbers the original.

Both changes are in `slugs.py`; the tests are as they were."""


def shell(command: str, call_id: str) -> object:
    """One call of the shell tool; no login shell, so that PATH stays what it is."""
    return function_call("exec_command", {"cmd": command, "login": False}, call_id)


def say(text: str, item_id: str, *more: object) -> Step:
    """A message in small pieces, then calls."""
    words = [word + " " for word in text.split(" ")]
    words[-1] = words[-1].rstrip(" ")
    return Step([created(), *message(text, item_id, deltas=words), *more, completed()])


STEPS = [
    say(
        "I'll look at the project first.",
        "msg_look",
        shell("ls && cat slugs.py test_slugs.py", "call_look"),
    ),
    say("Now I run the tests to see what fails.", "msg_test", shell(TEST, "call_test_1")),
    say(
        "Two things are wrong. `slugify` handles single spaces only; I'll mend that first.",
        "msg_first",
        custom_tool_call("apply_patch", FIRST_PATCH, "call_patch_1"),
    ),
    say("Again:", "msg_again", shell(TEST, "call_test_2")),
    say(
        "One is left: `unique` numbers the slug that it has numbered already.",
        "msg_second",
        custom_tool_call("apply_patch", SECOND_PATCH, "call_patch_2"),
    ),
    say("And once more:", "msg_more", shell(TEST, "call_test_3")),
    say(ANSWER, "msg_answer"),
]


async def record(home: Path, workspace: Path, cassette: Path) -> None:
    """Play the steps to an engine over `home`, recording into `cassette`."""
    async with FakeProvider() as provider:
        provider.script(*STEPS)
        (home / "config.toml").write_text(
            'model = "treadle-demo"\nmodel_provider = "demo"\napproval_policy = "never"\n'
            'sandbox_mode = "danger-full-access"\n\n[model_providers.demo]\nname = "Scripted"\n'
            f'base_url = "{provider.url}/v1"\nwire_api = "responses"\n'
        )
        variables = {**os.environ, "TREADLE_HOME": str(home)}
        path = f"{Path(sys.executable).parent}:{variables['PATH']}"
        environment = Environment({**variables, "PATH": path}, workspace)
        engine = build_engine(load_config(environment), record_to=cassette)
        async with connected(engine, "treadle_demo") as client:
            thread = (await client.request("thread/start", {"cwd": str(workspace)}))["thread"]
            text = {"type": "text", "text": PROMPT, "text_elements": []}
            await client.request("turn/start", {"threadId": thread["id"], "input": [text]})
            while True:
                event = await client.next_event(30)
                if event.method == "item/completed":
                    print(json.dumps(event.params["item"])[:300])
                if event.method == "turn/completed":
                    print(event.params["turn"]["status"])
                    return


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "home").mkdir()
        shutil.copytree(
            DATA / "project", place / "workspace", ignore=shutil.ignore_patterns("__pycache__")
        )
        asyncio.run(record(place / "home", place / "workspace", DATA / "cassette.jsonl"))
