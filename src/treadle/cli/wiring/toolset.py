"""The tools of a thread: which there are, and the commands they may leave running."""

from collections.abc import Awaitable, Callable

from treadle.config.settings import Config
from treadle.engine.tools.edit_files import ApplyPatch
from treadle.engine.tools.exec import ExecCommand, WriteStdin
from treadle.engine.tools.exec_sessions import ExecSessions
from treadle.engine.tools.plan import UpdatePlan
from treadle.engine.tools.shell import Shell, ShellScript
from treadle.engine.tools.toolbox import Toolbox
from treadle.engine.tools.view_image import ViewImage


class Toolset:
    """Makes the tools of each thread."""

    def __init__(self, shell: str) -> None:
        """Run scripts in `shell`, an absolute path."""
        self.shell = shell

    def make(self, config: Config) -> tuple[Toolbox, Callable[[], Awaitable[None]]]:
        """A thread's tools, and what stops the commands they left running."""
        del config
        sessions = ExecSessions()
        tools = Toolbox(
            [
                ExecCommand(sessions, self.shell),
                WriteStdin(sessions),
                ApplyPatch(),
                UpdatePlan(),
                ViewImage(),
            ],
            unlisted=[Shell(sessions), ShellScript(sessions, self.shell)],
        )
        return tools, sessions.close
