"""`treadle bench`: measures a part of Treadle beside what it is measured against.

Finds the benchmark and hands over; each is a module with `run(arguments) -> exit code`.
"""

import argparse
import importlib
import sys

BENCHES = {
    "control": ("treadle.cli.bench_control.main", "the manager: appends, claims, latencies, start"),
    "threads": ("treadle.cli.bench_threads.main", "stored threads: lists, resumes, memory"),
    "turns": ("treadle.cli.bench_turns.main", "an app-server: start, turns, a fleet, memory"),
}


def build_parser() -> argparse.ArgumentParser:
    """All benchmarks under one parser, as shells complete them; loads every one of them."""
    parser = argparse.ArgumentParser(prog="treadle bench", description=__doc__)
    benches = parser.add_subparsers()
    for name, (module, text) in BENCHES.items():
        benches.add_parser(name, help=text)
        benches.choices[name] = importlib.import_module(module).build_parser()
    return parser


def run(arguments: list[str]) -> int:
    """Run a benchmark; the exit code."""
    name = arguments[0] if arguments else "--help"
    if name in BENCHES:
        return int(importlib.import_module(BENCHES[name][0]).run(arguments[1:]))
    lines = "\n".join(f"  {name:8}  {text}" for name, (_, text) in BENCHES.items())
    usage = f"usage: treadle bench NAME [OPTION ...]\n\n{lines}\n\nEach has a --help of its own."
    if name in ("-h", "--help"):
        print(usage)
        return 0
    print(f"treadle bench: there is no benchmark {name!r}\n\n{usage}", file=sys.stderr)
    return 2
