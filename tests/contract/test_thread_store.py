"""Both built-in stores keep the port's promises."""

from pathlib import Path
from typing import Any

from treadle.engine.store.local.store import LocalThreadStore
from treadle.engine.store.memory import InMemoryThreadStore
from treadle.kit.clock import SystemClock
from treadle.testing.thread_store import ThreadStoreContract


class TestInMemoryThreadStore(ThreadStoreContract):
    def make_store(self, tmp_path: Any) -> InMemoryThreadStore:
        return InMemoryThreadStore(SystemClock())


class TestLocalThreadStore(ThreadStoreContract):
    def make_store(self, tmp_path: Any) -> LocalThreadStore:
        return LocalThreadStore(Path(tmp_path), SystemClock())
