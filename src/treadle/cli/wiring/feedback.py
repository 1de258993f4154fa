"""Feedback of this process's users: the engine's `Feedback`, told of configuration and machine."""

from typing import Any

from treadle.cli.wiring.version import PRODUCT
from treadle.config.errors import ConfigError
from treadle.config.layers import section
from treadle.config.store import ConfigStore
from treadle.engine.services.feedback import Feedback
from treadle.engine.services.threads import Threads
from treadle.kit.clock import Clock


def make_feedback(config: ConfigStore, threads: Threads, clock: Clock) -> Feedback:
    """Feedback on these threads; what `treadle doctor` says lies beside it."""

    def examine_setup() -> dict[str, Any]:
        from dataclasses import asdict

        from treadle.cli.doctor import examine

        return {"version": PRODUCT, "findings": [asdict(each) for each in examine(config)]}

    def enabled() -> bool:
        try:
            return section(config.snapshot().table, "feedback").get("enabled") is not False
        except ConfigError:
            return True  # a broken configuration is what users have something to say about

    return Feedback(threads, clock, examine=examine_setup, enabled=enabled)
