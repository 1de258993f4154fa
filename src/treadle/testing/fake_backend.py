"""A scripted app-server over stdio: the backend that tests and drills drive.

`python -m treadle.testing.fake_backend` plays the mode that `TREADLE_FAKE_BACKEND_MODE` or
`AGENTRUN_FAKE_CODEX_MODE` names (default: one friendly turn). Everything it says is fixed by the
mode and the prompt, so that a lost or doubled message shows. `TREADLE_FAKE_BACKEND_COUNT` scales
the modes that repeat themselves.
"""

import os
import sys

from treadle.testing.fake_scripts import SCRIPTS
from treadle.testing.fake_server import FakeServer

MODE_VARIABLES = ("TREADLE_FAKE_BACKEND_MODE", "AGENTRUN_FAKE_CODEX_MODE")


def main() -> None:
    """Serve standard input and output until end of file; exits 2 for an unknown mode."""
    env = os.environ  # noqa: TID251 - a program of its own, whose environment is its script
    mode = next((env[name] for name in MODE_VARIABLES if env.get(name)), "default")
    script = SCRIPTS.get(mode)
    if script is None:
        sys.stderr.write(f"unknown mode {mode}; one of: {', '.join(sorted(SCRIPTS))}\n")
        raise SystemExit(2)
    count = int(env.get("TREADLE_FAKE_BACKEND_COUNT", "2000"))
    FakeServer(mode, script, env.get("CODEX_HOME", ""), count).run()


if __name__ == "__main__":
    main()
