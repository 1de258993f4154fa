"""A scripted app-server over stdio: the backend that tests and drills drive (docs/testing.md).

`python -m treadle.testing.fake_backend` plays the mode that `TREADLE_FAKE_BACKEND_MODE` or
`AGENTRUN_FAKE_CODEX_MODE` names (default: one friendly turn). Everything it says is fixed by the
mode and the prompt, so that a lost or doubled message shows. `TREADLE_FAKE_BACKEND_COUNT` scales
the modes that repeat themselves. `serve` plays a script of one's own.
"""

import os
import sys

from treadle.testing.fake_drills import DRILLS
from treadle.testing.fake_scripts import SCRIPTS as CONTRACT
from treadle.testing.fake_server import FakeServer, Script

__all__ = ["SCRIPTS", "FakeServer", "Script", "main", "serve"]

SCRIPTS: dict[str, Script] = {**CONTRACT, **DRILLS}
"""All modes by name."""

MODE_VARIABLES = ("TREADLE_FAKE_BACKEND_MODE", "AGENTRUN_FAKE_CODEX_MODE")


def main() -> None:
    """Serve standard input and output until end of file; exits 2 for an unknown mode."""
    env = os.environ  # noqa: TID251 - a program of its own, whose environment is its script
    mode = next((env[name] for name in MODE_VARIABLES if env.get(name)), "default")
    script = SCRIPTS.get(mode)
    if script is None:
        sys.stderr.write(f"unknown mode {mode}; one of: {', '.join(sorted(SCRIPTS))}\n")
        raise SystemExit(2)
    serve(script, mode)


def serve(script: Script, mode: str = "own") -> None:
    """Serve standard input and output until end of file, playing `script` in each turn.

    Args:
        script: called with the server and the turn's prompt; what it may say is in `FakeServer`.
        mode: the name of one of `SCRIPTS` lends its rules for models and threads.
    """
    env = os.environ  # noqa: TID251 - see main
    count = int(env.get("TREADLE_FAKE_BACKEND_COUNT", "2000"))
    FakeServer(mode, script, env.get("CODEX_HOME", ""), count).run()


if __name__ == "__main__":
    main()
