"""`treadle run`: carries out a task with the configured provider, through the control plane."""

import argparse
import sys
from pathlib import Path

from treadle.cli.config_flags import add_config_flags, open_config
from treadle.cli.manager_files import ManagerFiles
from treadle.cli.progress import complain
from treadle.cli.signals import StopSignals
from treadle.cli.wiring.loop import run_loop
from treadle.config.errors import ConfigError
from treadle.config.store import ConfigStore


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="treadle run",
        description=__doc__,
        epilog="exit codes: 0 completed; 1 the service failed; 2 misused; 3 failed for a reason "
        "that only the user can mend, or blocked; 4 cancelled; 5 no runner finished it; 6 failed "
        "for now, trying again can help; 130 quit.",
    )
    parser.add_argument("task", help="what the agent is to do")
    parser.add_argument("--workspace", type=Path, default=Path(), metavar="DIR")
    parser.add_argument("--model")
    parser.add_argument(
        "--sandbox",
        choices=("read-only", "workspace-write", "danger-full-access"),
        default="workspace-write",
    )
    parser.add_argument(
        "--approval",
        choices=("never", "on-request", "untrusted"),
        default="never",
        help="whether the agent may ask; answer from elsewhere with `treadle runs answer`",
    )
    parser.add_argument("--backend-profile", default="codex", metavar="NAME")
    parser.add_argument("--timeout-ms", type=int, default=600_000, help="longest silence of a turn")
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")
    parser.add_argument("--data", type=Path, default=None, metavar="DIR", help="data folder")
    add_config_flags(parser)
    return parser


def run(arguments: list[str]) -> int:
    """Carry out the task; the exit codes are those that `--help` lists."""
    options = build_parser().parse_args(arguments)
    workspace = options.workspace.absolute()
    if not workspace.is_dir():
        complain(f"the workspace {workspace} is no folder; name one with --workspace")
        return 2
    config = open_config(options)
    if config is None:
        return 2
    missing = _missing_provider(config)
    if missing is not None:
        complain(missing)
        return 2
    return run_loop(_carry_out(options, config, workspace))


def _missing_provider(config: ConfigStore) -> str | None:
    """What to put where before a real model can be asked; None when all is there."""
    try:
        provider = config.snapshot().model.provider
    except ConfigError as error:
        return str(error)
    if provider.missing_env is not None:
        return f"{provider.missing_env_message} The provider `{provider.id}` needs it."
    if provider.requires_openai_auth and provider.bearer is None:
        return (
            "no model provider is configured. Put one into "
            f"{config.user_file}, for example:\n\n"
            'model = "MODEL"\nmodel_provider = "mine"\n\n[model_providers.mine]\nname = "Mine"\n'
            'base_url = "https://HOST/v1"\nwire_api = "responses"\nenv_key = "MY_API_KEY"\n\n'
            "and set MY_API_KEY; or set OPENAI_API_KEY. `treadle demo` works without any."
        )
    return None


async def _carry_out(options: argparse.Namespace, config: ConfigStore, workspace: Path) -> int:
    from treadle.cli.carry_out import CarriedOut, Task, show_envelope, show_summary
    from treadle.cli.manager import default_data
    from treadle.cli.open_manager import NoManager, open_manager

    signals = StopSignals()
    data = options.data or default_data()
    try:
        manager = await open_manager(ManagerFiles(data))
    except NoManager as error:
        complain(str(error))
        return 1
    task = Task(
        prompt=options.task if options.task != "-" else sys.stdin.read(),
        workspace=workspace,
        profile=options.backend_profile,
        sandbox=options.sandbox,
        home=config.home,
        env=config.environment.variables,
        model=options.model,
        timeout_ms=options.timeout_ms,
        approval=options.approval,
    )
    try:
        return await CarriedOut(
            manager.client,
            manager.url,
            manager.token_file,
            task,
            show_result=show_envelope if options.json else show_summary,
        ).run(signals)
    finally:
        await manager.close()
