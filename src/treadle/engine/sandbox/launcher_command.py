"""How the launcher is called, and whether a call of it works on this machine.

The one place that knows the launcher's command line; the backends say which fences they want.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from treadle.domain.policy import DangerFullAccess, ExternalSandbox, ReadOnly, WorkspaceWrite

_PROBE_SECONDS = 10.0
# Imported rather than run as a file, so that its compiled form is kept: 10 ms of 30. Its folder
# goes last, for a neighbour of it has the name of a standard module.
_START = """import sys
sys.path.append({folder!r})
import launcher
sys.exit(launcher.main(sys.argv[1:]))
"""


def launcher_argv(options: Sequence[str], argv: Sequence[str]) -> tuple[str, ...]:
    """The words that run `argv` behind the fences that `options` name."""
    folder = str(Path(__file__).parent)
    start = _START.format(folder=folder)
    return (sys.executable, "-I", "-S", "-c", start, *options, "--", *argv)


def trial(argv: Sequence[str]) -> str | None:
    """Run a confined `true`; None when it worked, else the first line of what it said."""
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[0] if lines else f"status {done.returncode}"


def network_allowed(
    policy: DangerFullAccess | ReadOnly | WorkspaceWrite | ExternalSandbox,
) -> bool:
    """Whether a command under `policy` may use the network."""
    if isinstance(policy, ReadOnly | WorkspaceWrite):
        return policy.network_access
    return True
