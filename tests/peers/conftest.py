"""Peers are tested where they are installed: by `make test-peers`, not by `make test`."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

if importlib.util.find_spec("openai_codex") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from peer_bench import Bench

    @pytest.fixture
    def bench(tmp_path: Path) -> Iterator[Bench]:
        bench = Bench(tmp_path)
        bench.start()
        yield bench
        bench.stop()
