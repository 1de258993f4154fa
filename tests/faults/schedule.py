"""Which faults happen, to whom and when: everything about a run of the programme, from one number.

"When" is a share of the work done, so that a slow machine meets the same faults at the same places.
What the processes do in between is their own; the same seed asks for the same, it cannot order the
machine about.
"""

import random
from dataclasses import dataclass

from support.fault_places import places_of

NETWORK = {
    "delay": 6,  # N2: answers take up to two seconds
    "reset-request": 8,  # N2: a connection is reset at a byte of what a client sends
    "reset-answer": 8,  # N2, C6, N7: ... of what a manager answers, so that it happened
    "half-open": 4,  # N3: connections stay and nothing comes
    "one-way-up": 4,  # N4, N5: partition in one direction, healed later
    "one-way-down": 4,
    "doubled": 8,  # N7: POSTs arrive twice
}
MANAGERS = {
    "manager-kill": 10,  # P1
    "manager-point": 12,  # P2
    "manager-drain": 6,  # P7
}
WRITERS = {
    "writer-dies": 12,  # P3
    "writer-sleeps": 12,  # P5: a zombie comes back after another took over
    "writer-exits": 10,  # somebody saw it and says so, at once or late
    "writer-accused": 6,  # it is said to be gone, and lives
}
DATABASE = {
    "database-crash": 5,  # D1
    "sessions-cut": 8,  # D2
    "commit-lost": 12,  # D4
    "database-reset": 5,
    "database-slow": 4,
}
RUNNERS = {
    "runner-kill": 8,  # P3
    "runner-point": 10,
    "runner-stop": 5,  # P5
}
ONLY_POSTGRES = "control.append."
"""Places of a path that plain appends take there."""


def manager_places(database: str) -> list[str]:
    """Fault points that a manager on this kind of database comes by."""
    places = places_of("control")
    if database == "postgres":
        return places
    return [place for place in places if not place.startswith(ONLY_POSTGRES)]


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault at a share of the work; `pick` chooses among those it can happen to."""

    at: float
    kind: str
    pick: int
    seconds: float
    number: int


@dataclass(frozen=True, slots=True)
class Programme:
    """What is run."""

    seed: int
    events: int
    faults: int
    database: str
    managers: int = 2
    runs: int = 12
    sessions: int = 0
    """Runs that real runners with a scripted backend work on."""
    turns: int = 6
    """Turns per session."""
    lease_ms: int = 1500

    def plan(self) -> list[Planned]:
        """The faults in the order of their time."""
        rng = random.Random(f"faults {self.seed}")
        weights = {**NETWORK, **MANAGERS, **WRITERS}
        if self.database == "postgres":
            weights |= DATABASE
        if self.sessions:
            weights |= RUNNERS
        kinds = rng.choices(list(weights), list(weights.values()), k=self.faults)
        # Each kind comes at least once where there is room for it.
        missing = [kind for kind in weights if kind not in kinds]
        if len(kinds) >= len(weights):
            kinds[: len(missing)] = missing
        rng.shuffle(kinds)
        places = sorted(rng.uniform(0.02, 0.95) for _ in kinds)
        return [
            Planned(
                place,
                kind,
                rng.getrandbits(30),
                round(rng.uniform(0.2, 1.5), 3),
                rng.randint(1, 40),
            )
            for place, kind in zip(places, kinds, strict=True)
        ]

    @property
    def again(self) -> str:
        """How to run exactly this again."""
        return (
            f"make test-faults SEED={self.seed} EVENTS={self.events} FAULTS={self.faults} "
            f"DATABASE={self.database} SESSIONS={self.sessions} TURNS={self.turns}"
        )
