"""`treadle demo`: the whole path on a sample project, with a recorded model and no network.

A fresh copy of a small project with failing tests, a manager, a runner, an app-server, the shell
and patch tools in their sandbox: all real. Only the model's words come from a recording.
"""

import argparse
import difflib
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from treadle.cli.manager_files import ManagerFiles
from treadle.cli.progress import complain
from treadle.cli.signals import StopSignals
from treadle.cli.wiring.loop import run_loop
from treadle.config.load import read_environment

if TYPE_CHECKING:
    from treadle.runner.manager_types import ResultEnvelope

PROMPT = "The tests of this project fail. Find out why, mend the code, and prove that they pass."
DATA = Path(__file__).parent.parent / "demo"
PACE_MS = 35

_CONFIG = """\
# Written by `treadle demo`: a model whose words were recorded.
model = "treadle-demo"
model_provider = "demo"
approval_policy = "never"
sandbox_mode = "workspace-write"

[model_providers.demo]
name = "Recorded model"
base_url = "cassette://{cassette}?paceMs={pace}"
wire_api = "responses"
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="treadle demo", description=__doc__)
    parser.add_argument(
        "--serve", action="store_true", help="keep the manager running afterwards, until Ctrl-C"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data/demo"), metavar="DIR", help="data folder"
    )
    parser.add_argument("--pace-ms", type=int, default=PACE_MS, help="pause between words")
    return parser


def run(arguments: list[str]) -> int:
    """Show the demonstration; the exit code of its run."""
    options = build_parser().parse_args(arguments)
    data = options.data.absolute()
    try:
        home = _make_home(data, options.pace_ms)
        workspace = Path(tempfile.mkdtemp(prefix="workspace-", dir=data))
    except OSError as error:
        complain(f"cannot write to {data}: {error.strerror}; choose another folder with --data")
        return 1
    for file in _sample_files():
        shutil.copy(file, workspace)
    return run_loop(_show(home, workspace, data, serve=options.serve))


def _sample_files() -> list[Path]:
    """The sample's files; byte code that an installer left beside them is none of it."""
    return sorted(file for file in (DATA / "project").iterdir() if file.is_file())


def _make_home(data: Path, pace_ms: int) -> Path:
    home = data / "home"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = _CONFIG.format(cassette=DATA / "cassette.jsonl", pace=pace_ms)
    (home / "config.toml").write_text(config, encoding="utf-8")
    return home


async def _show(home: Path, workspace: Path, data: Path, *, serve: bool) -> int:
    from treadle.cli.carry_out import CarriedOut, Task
    from treadle.cli.open_manager import NoManager, open_manager

    signals = StopSignals()
    environment = read_environment()
    sandbox = _sandbox_mode(environment.get("PATH") or "")
    try:
        manager = await open_manager(ManagerFiles(data / "manager"))
    except NoManager as error:
        complain(str(error))
        return 1
    print(f"manager    {manager.url}")
    print(f"workspace  {workspace}")
    print(f"task       {PROMPT}\n", flush=True)
    # Our own interpreter comes first: the sample's tests run under the Python we run under.
    path = f"{Path(sys.executable).parent}:{environment.get('PATH') or '/usr/bin:/bin'}"
    task = Task(
        prompt=PROMPT,
        workspace=workspace,
        profile="demo",
        sandbox=sandbox,
        home=home,
        env={**environment.variables, "PATH": path},
    )
    try:
        code = await CarriedOut(
            manager.client,
            manager.url,
            manager.token_file,
            task,
            show_result=_result_shower(workspace),
        ).run(signals)
        if serve and not signals.first.is_set():
            print(f"\nThe manager goes on serving at {manager.url} (Ctrl-C stops it).", flush=True)
            await signals.first.wait()
        return code
    finally:
        await manager.close()


def _sandbox_mode(search_path: str) -> str:
    """The tightest mode that works here; the recording's commands are harmless without any."""
    from treadle.engine.sandbox.select import ProbedSandbox

    report = ProbedSandbox(search_path).report
    if report.enforced:
        print(f"sandbox    {report.backend}")
        return "workspace-write"
    print(f"sandbox    none ({report.why_not}); the demo runs without one")
    return "danger-full-access"


def _result_shower(workspace: Path) -> Callable[["ResultEnvelope"], None]:
    """Shows what the agent changed, against the sample as it was, and the result."""
    from treadle.cli.carry_out import show_envelope

    def show(envelope: "ResultEnvelope") -> None:
        print()
        for before in _sample_files():
            after = workspace / before.name
            old = before.read_text(encoding="utf-8").splitlines(keepends=True)
            new = (
                after.read_text(encoding="utf-8").splitlines(keepends=True)
                if after.exists()
                else []
            )
            diff = difflib.unified_diff(old, new, f"a/{before.name}", f"b/{before.name}")
            sys.stdout.writelines(diff)
        show_envelope(envelope)

    return show
