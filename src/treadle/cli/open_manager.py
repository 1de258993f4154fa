"""A manager to talk to: the one that runs, or one of our own for as long as we live."""

from dataclasses import dataclass
from pathlib import Path

from treadle.cli.manager_files import ManagerFiles
from treadle.control.faults import DatabaseUnusable
from treadle.control.http.server import ManagerOptions, ManagerStartError, RunningManager, serve
from treadle.runner.manager_client import ManagerClient, ManagerError, ManagerUnreachable


class NoManager(Exception):
    """There is no manager and none could be started; the text says why."""


@dataclass(slots=True)
class OpenManager:
    """A manager that answers, and the client to it."""

    url: str
    token_file: Path
    client: ManagerClient
    own: RunningManager | None
    """Ours to stop; None when it was running before."""
    files: ManagerFiles

    async def close(self) -> None:
        """End the client, and the manager if it is ours."""
        await self.client.close()
        if self.own is not None:
            self.files.forget_address()
            await self.own.stop()


async def open_manager(files: ManagerFiles) -> OpenManager:
    """The running manager of a data folder, or a new one in this process.

    Raises:
        NoManager: none runs and none can be started.
    """
    running = files.read_address()
    token = files.read_token()
    if running is not None:
        client = ManagerClient(running, token)
        try:
            await client.list_runs(limit=1)
        except (ManagerError, ManagerUnreachable):
            await client.close()
        else:
            return OpenManager(running, files.token_file, client, None, files)
    try:
        token = files.ensure_token()
        own = await serve(
            ManagerOptions(port=0, data_folder=files.folder, auth="token", token=token)
        )
    except (ManagerStartError, DatabaseUnusable) as error:
        raise NoManager(str(error)) from error
    except OSError as error:
        raise NoManager(
            f"cannot write to the data folder {files.folder}: {error.strerror}"
        ) from error
    files.write_address(own.address)
    return OpenManager(own.address, files.token_file, ManagerClient(own.address, token), own, files)
