"""The `treadle` command: finds the sub-command and hands over.

Each sub-command is a module with `run(arguments) -> exit code`; only the one that is asked for is
imported, so that `treadle app-server` starts fast.
"""

import gc
import importlib
import sys
from collections.abc import Callable

TRACE_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Variables of OpenTelemetry; one of them set means that spans are wanted."""

COMMANDS = {
    "app-server": ("treadle.cli.app_server", "host agent threads over stdio or a websocket"),
    "exec": ("treadle.cli.exec", "run one turn without a person and print the answer"),
    "run": ("treadle.cli.run", "carry out a task through a manager and a runner"),
    "manager": ("treadle.cli.manager", "serve the control plane's HTTP API"),
    "runner": ("treadle.cli.runner", "claim runs and drive app-servers"),
    "runs": ("treadle.cli.runs", "list, show, follow, answer, stop and verify runs"),
    "runners": ("treadle.cli.runners", "list runners, drain one, report one gone"),
    "tokens": ("treadle.cli.tokens", "make, list and revoke tokens of tenants and projects"),
    "db": ("treadle.cli.db", "migrate or verify a manager's database"),
    "threads": ("treadle.cli.threads", "check and mend the files of threads, free a thread"),
    "thread-store": ("treadle.cli.thread_store", "keep threads for app-servers on any machine"),
    "demo": ("treadle.cli.demo", "show the whole path on a sample project, offline"),
    "bench": ("treadle.cli.bench", "measure parts of Treadle beside what they are held against"),
    "doctor": ("treadle.cli.doctor", "say what works on this machine, and what does not"),
    "completion": ("treadle.cli.completion", "complete commands and options in a shell"),
}


def main() -> None:
    """Entry point of the console script."""
    # Loading modules makes no garbage; looking for some meanwhile takes a tenth of the start.
    gc.disable()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a sub-command; the exit code."""
    from treadle.kit.version import VERSION

    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name in ("-V", "--version"):
        print(f"treadle {VERSION}")
        return 0
    if name not in COMMANDS:
        print(f"treadle: there is no command {name!r}\n\n{_help()}", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[name][0])
    gc.enable()
    try:
        _arm_faults()
    except ValueError as error:
        print(f"treadle: TREADLE_FAULT_POINTS: {error}", file=sys.stderr)
        return 2
    end_traces = _start_traces(name)
    try:
        return int(module.run(rest))
    except KeyboardInterrupt:
        return 130
    finally:
        end_traces()


def _arm_faults() -> None:
    """Prepare this process to fail as a test wants it to; without its variable nothing happens."""
    from treadle.config.load import read_fault_plan

    plan = read_fault_plan()
    if plan:
        from treadle.kit.fault_points import arm, parse_faults

        arm(parse_faults(plan))


def _start_traces(process: str) -> Callable[[], None]:
    """Trace this process where the environment names a collector; returns what ends it."""
    from treadle.config.load import read_environment

    environment = read_environment()
    if not any(environment.get(name) for name in TRACE_ENDPOINTS):
        return lambda: None
    from treadle.cli.wiring.tracing import start_tracing

    return start_tracing(environment, process)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_module, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: treadle COMMAND [OPTION ...]",
            "",
            "The durable home of agent threads.",
            "",
            *lines,
            "",
            "treadle COMMAND --help tells more.",
        ]
    )


if __name__ == "__main__":
    main()
