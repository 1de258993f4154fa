"""Whatever happens to a thread, in whatever order. `support.turn_machine` says what must hold."""

import os

from hypothesis import HealthCheck, settings

from support.turn_machine import TurnMachine

EXAMPLES = int(os.environ.get("TREADLE_TEST_EXAMPLES", "0"))
"""How many lives of a thread; without it the same few each time. `make test-turns` has many."""

TestTurns = TurnMachine.TestCase
TestTurns.settings = settings(
    max_examples=EXAMPLES or 5,
    derandomize=not EXAMPLES,
    database=None,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
