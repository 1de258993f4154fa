"""`treadle doctor`: says what works on this machine, what does not, and what to do about it.

Looks without changing anything: no folder is made, no provider is called, no key is shown. Exits 0
when agents can run here, 1 otherwise.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from treadle.cli.config_flags import add_config_flags, open_config
from treadle.config.settings import Config
from treadle.config.store import ConfigStore
from treadle.engine.sandbox.launch_plan import SandboxReport
from treadle.engine.sandbox.select import probe

State = Literal["ok", "note", "problem"]

MIN_PYTHON = (3, 11)
TOOLS = {
    "git": "threads then tell branch and commit of their folder",
    "rg": "agents search faster with it",
    "bwrap": "the strongest sandbox",
}
"""Programs that are used when they are there, and what for."""

PACKAGES = {"rg": "ripgrep", "bwrap": "bubblewrap"}
"""Names of their packages, where those differ."""

_MARKS: dict[State, str] = {"ok": "ok", "note": "--", "problem": "!!"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    """`note`: works, but less well than it could. `problem`: agents cannot run."""
    text: str
    remedy: str | None = None


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="treadle doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    add_config_flags(parser)
    return parser


def run(arguments: list[str]) -> int:
    """Look around; 0 when agents can run here."""
    options = build_parser().parse_args(arguments)
    config = open_config(options)
    if config is None:
        return 1
    findings = list(examine(config))
    usable = all(finding.state != "problem" for finding in findings)
    if options.json:
        shown = {"usable": usable, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(shown, indent=2))
    else:
        print(_text(findings, usable=usable))
    return 0 if usable else 1


def examine(config: ConfigStore) -> Iterator[Finding]:
    """Everything that decides whether agents can run, one finding after the other."""
    yield _python()
    yield _home(config)
    yield from _settings(config)
    effective = config.startup()
    yield _provider(effective)
    yield _store(effective)
    yield _sandbox(effective, config.environment.get("PATH") or "/usr/bin:/bin")
    yield from _tools(config.environment.get("PATH") or "/usr/bin:/bin")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= MIN_PYTHON:
        return Finding("python", "ok", version)
    wanted = ".".join(map(str, MIN_PYTHON))
    return Finding("python", "problem", version, f"install Python {wanted} or newer")


def _home(config: ConfigStore) -> Finding:
    home = config.home
    if home.is_dir():
        if os.access(home, os.W_OK | os.X_OK):
            return Finding("home", "ok", str(home))
        return Finding("home", "problem", f"{home} cannot be written", "give this user access")
    named = config.environment.get("TREADLE_HOME") or config.environment.get("CODEX_HOME")
    if named:
        return Finding("home", "problem", f"{home} is no folder", f"make it: mkdir -p {home}")
    return Finding("home", "ok", f"{home} (made at the first start)")


def _settings(config: ConfigStore) -> Iterator[Finding]:
    problems = config.problems
    if not problems:
        state = "" if config.user_file.exists() else " (not there; defaults apply)"
        yield Finding("config", "ok", f"{config.user_file}{state}")
    for problem in problems:
        broken = problem.summary.startswith("Invalid")
        text = f"{problem.summary} {problem.details or ''}".strip()
        remedy = (
            "mend the file; new threads fail until then" if broken else "mend or remove the key"
        )
        yield Finding("config", "problem" if broken else "note", text, remedy)


def _provider(config: Config) -> Finding:
    provider = config.model.provider
    where = f"{provider.id}, model {config.model.model or 'by default'}"
    if provider.missing_env is not None:
        return Finding(
            "provider",
            "problem",
            f"{where}: the key's variable {provider.missing_env} is not set",
            f"export {provider.missing_env}",
        )
    if provider.requires_openai_auth and provider.bearer is None:
        return Finding(
            "provider",
            "problem",
            f"{where}: no key",
            "export OPENAI_API_KEY, or configure another provider",
        )
    key = "key is there" if provider.bearer is not None else "needs no key"
    return Finding("provider", "ok", f"{where}: {key}")


def _store(config: Config) -> Finding:
    match config.store.kind:
        case "local":
            return Finding("store", "ok", f"files below {config.home / 'sessions'}")
        case "in_memory":
            return Finding("store", "note", "in memory: threads end with the server")
        case kind:
            return Finding(
                "store", "problem", f"{kind} is not built in", "use experimental_thread_store local"
            )


def _sandbox(config: Config, search_path: str) -> Finding:
    if config.safety.sandbox_backend == "none":
        return Finding("sandbox", "note", "left to the container that this runs in")
    report: SandboxReport = probe(search_path, config.safety.sandbox_backend).report
    how = f"{report.backend}, {'enforced' if report.enforced else 'not enforced'}"
    text = f"{how}: {report.why_not}" if report.why_not else how
    if report.enforced:
        return Finding("sandbox", "note" if report.why_not else "ok", text, report.remedy)
    mode = config.safety.sandbox_mode
    if mode == "danger-full-access":
        return Finding("sandbox", "note", f"{text}; sandbox_mode asks for none", report.remedy)
    return Finding("sandbox", "problem", text, report.remedy)


def _tools(search_path: str) -> Iterator[Finding]:
    for name, purpose in TOOLS.items():
        found = shutil.which(name, path=search_path)
        if found is not None:
            yield Finding(name, "ok", found)
        else:
            package = PACKAGES.get(name, name)
            yield Finding(name, "note", f"not found; {purpose}", f"install {package} (optional)")


def _text(findings: list[Finding], *, usable: bool) -> str:
    width = max(len(finding.name) for finding in findings)
    lines: list[str] = []
    for finding in findings:
        lines.append(f"[{_MARKS[finding.state]}] {finding.name:{width}}  {finding.text}")
        if finding.remedy is not None:
            lines.append(f"     {'':{width}}  -> {finding.remedy}")
    verdict = "Agents can run here." if usable else "Agents cannot run here yet; see [!!] above."
    return "\n".join([*lines, "", verdict])
