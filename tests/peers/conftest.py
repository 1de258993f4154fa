"""Peers are tested where they are installed: by `make test-peers`, not by `make test`."""

import importlib.util

if importlib.util.find_spec("openai_codex") is None:
    collect_ignore_glob = ["test_*.py"]
