"""The checker finds what it is there to find: a clean history is broken in every way it may be."""

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from faults.checker import INVARIANTS, check
from faults.history import (
    Acked,
    CommandRow,
    Copy,
    FinalRun,
    Forged,
    Granted,
    History,
    Keyed,
    Leak,
    Logged,
    Reported,
    Shown,
    Tried,
    digest_of,
)

RUN = "run-1"


def status(seq: int, phase: str, producer: tuple[int, int] | None = None, **facts: Any) -> Logged:
    epoch, producer_seq = producer or (None, None)
    body = {"phase": phase, **facts}
    command = facts.get("commandId")
    digest = digest_of("backend_status", msgspec.json.encode(body))
    return Logged(seq, "backend_status", digest, epoch, producer_seq, command, body)


def output(seq: int, producer: tuple[int, int], text: str, **facts: Any) -> Logged:
    digest = digest_of("command_output", text.encode())
    return Logged(seq, "command_output", digest, *producer, None, facts)


def make_log() -> list[Logged]:
    """Two turns; the first runner is lost in the second one, the next tells its spool again."""
    again = {"recovered": True, "recoveredFrom": {"epoch": 1, "producerSeq": 5}}
    return [
        status(1, "run-created"),
        status(2, "command-created", commandId="t1"),
        status(3, "command-created", commandId="t2"),
        status(4, "run-claimed", epoch=1),
        status(5, "command-acknowledged", (1, 1), commandId="t1"),
        output(6, (1, 2), "a"),
        status(7, "command-terminal", (1, 3), commandId="t1", state="completed"),
        status(8, "command-acknowledged", (1, 4), commandId="t2"),
        status(9, "run-lease-expired", epoch=1, failureKind="runner-crashed"),
        status(10, "run-claimed", epoch=2),
        output(11, (2, 1), "b", **again),
        status(12, "command-acknowledged", (2, 2), commandId="t2"),
        output(13, (2, 3), "c"),
        status(14, "command-terminal", (2, 4), commandId="t2", state="completed"),
        status(15, "run-terminal", (2, 5), terminalStatus="completed"),
    ]


def make_history() -> History:
    log = make_log()
    sent = {epoch: tuple(event.digest for event in log if event.epoch == epoch) for epoch in (1, 2)}
    seen = Copy("s", RUN, saw_end=True)
    for event in log:
        seen.see(event.seq, event.digest)
    late = Copy("late", RUN, after=10)
    for event in log[10:13]:
        late.see(event.seq, event.digest)
    rows = [CommandRow(f"t{n}", n, "turn", "completed", key=f"k{n}") for n in (1, 2)]
    final = FinalRun(RUN, "completed", "completed", len(log), log, rows)
    return History(
        tried=[Tried(2.0, RUN, 1, 1, sent[1]), Tried(6.0, RUN, 2, 1, sent[2])],
        acked=[Acked(2.0, 2.1, RUN, 1, 4, 8, False), Acked(6.0, 6.1, RUN, 2, 5, 15, False)],
        granted=[Granted(1.0, 1.1, RUN, 1, "a"), Granted(5.0, 5.1, RUN, 2, "b")],
        reported=[Reported(RUN, 1), Reported(RUN, 1, lapsed_at=4.0)],
        keyed=[Keyed("runs", "k", RUN), Keyed("runs", "k", RUN)],
        forged=[Forged(RUN, "an old token", accepted=False)],
        shown=[Shown("acme", "acme", "/runs"), Shown("acme", "acme/app", "/runs")],
        copies=[seen, late],
        final={RUN: final},
    )


def final_of(history: History) -> FinalRun:
    return history.final[RUN]


def drop(place: int) -> Callable[[History], None]:
    def mutate(history: History) -> None:
        del final_of(history).log[place]

    return mutate


def change(place: int, **facts: Any) -> Callable[[History], None]:
    def mutate(history: History) -> None:
        log = final_of(history).log
        log[place] = replace(log[place], **facts)

    return mutate


def add(event: Logged) -> Callable[[History], None]:
    def mutate(history: History) -> None:
        final = final_of(history)
        final.log.append(event)
        final.last_seq += 1

    return mutate


def swap(history: History) -> None:
    log = final_of(history).log
    one, two = log[5], log[6]
    log[5], log[6] = replace(two, seq=one.seq), replace(one, seq=two.seq)


def lose_quietly(history: History) -> None:
    """An acknowledged event is gone, and the rest was numbered anew."""
    log = final_of(history).log
    del log[5]
    log[:] = [replace(event, seq=seq) for seq, event in enumerate(log, 1)]
    final_of(history).last_seq = len(log)


def twice(history: History) -> None:
    log = final_of(history).log
    log.insert(6, log[5])
    log[:] = [replace(event, seq=seq) for seq, event in enumerate(log, 1)]
    final_of(history).last_seq = len(log)


def stale_write(history: History) -> None:
    """A write of the first epoch, sent after the second was granted, is accepted."""
    history.acked.append(Acked(5.5, 5.6, RUN, 1, 4, 8, False))


def frame(skip: int) -> Callable[[History], None]:
    def mutate(history: History) -> None:
        seen = Copy("broken", RUN)
        for event in final_of(history).log[:4]:
            if event.seq != skip:
                seen.see(event.seq, event.digest)
        history.copies.append(seen)

    return mutate


def frame_twice(history: History) -> None:
    seen = history.copies[0]
    seen.see(seen.seqs[-1], seen.digests[-1])


def early_end(history: History) -> None:
    history.copies[1].saw_end = True


def foreign_frame(history: History) -> None:
    history.copies[1].digests[0] += 1


def row(place: int, **facts: Any) -> Callable[[History], None]:
    def mutate(history: History) -> None:
        rows = final_of(history).commands
        rows[place] = replace(rows[place], **facts)

    return mutate


def do(action: Callable[[History], object]) -> Callable[[History], None]:
    def mutate(history: History) -> None:
        action(history)

    return mutate


def unended(history: History) -> None:
    final = final_of(history)
    final.log.pop()
    final.log.pop()
    final.commands[1] = replace(final.commands[1], state="delivered")
    final.status, final.terminal_status, final.last_seq = "running", None, len(final.log)
    history.acked[-1] = replace(history.acked[-1], through=3, last_seq=13)
    history.copies.clear()


EXTRA = status(16, "run-terminal", (2, 6), terminalStatus="failed")
MUTATIONS: dict[str, tuple[str, Callable[[History], None]]] = {
    "an acknowledged event is lost": ("I1", lose_quietly),
    "an event has other content than was sent": ("I1", change(5, digest=1)),
    "an event was never sent": ("I1", add(output(16, (2, 6), "invented"))),
    "an answer named a seq that is gone": (
        "I2",
        do(lambda h: h.acked.append(Acked(6.2, 6.3, RUN, 2, 5, 16, True))),
    ),
    "a seq is missing": ("I2", drop(5)),
    "a seq is there twice": ("I2", change(5, seq=5)),
    "an event is told twice": ("I3", twice),
    "two events are swapped": ("I3", swap),
    "a spooled event is recovered twice": (
        "I3",
        change(12, facts={"recoveredFrom": {"epoch": 1, "producerSeq": 5}}),
    ),
    "a subscriber misses a frame": ("I4", frame(2)),
    "a subscriber sees a frame twice": ("I4", frame_twice),
    "a subscriber sees another event": ("I4", foreign_frame),
    "a subscriber is told the end too early": ("I4", early_end),
    "an epoch comes back": ("I5", change(9, facts={"phase": "run-claimed", "epoch": 1})),
    "an old epoch writes after a claim": ("I5", change(12, epoch=1, producer_seq=5)),
    "a runner writes after its lease was taken": ("I5", change(9, facts={"phase": "other"})),
    "a late write is accepted": ("I5", stale_write),
    "two runners hold one epoch": (
        "I5",
        do(lambda h: h.granted.append(Granted(1.0, 1.2, RUN, 1, "c"))),
    ),
    "a stolen token is accepted": (
        "I5",
        do(lambda h: h.forged.append(Forged(RUN, "another run's token", accepted=True))),
    ),
    "the run ends twice": ("I6", add(EXTRA)),
    "a command ends twice": ("I6", change(13, command="t1")),
    "the run's status is not the log's": (
        "I6",
        do(lambda h: setattr(final_of(h), "terminal_status", "failed")),
    ),
    "a command's state is not the log's": ("I6", row(0, state="failed")),
    "verification finds something": ("I6", do(lambda h: final_of(h).findings.append("fold"))),
    "commands have a gap": ("I7", row(1, cmd_seq=3)),
    "a command is taken up twice": (
        "I7",
        change(12, facts={"phase": "command-acknowledged"}, kind="backend_status", command="t2"),
    ),
    "a command is taken up after its end": ("I7", change(11, command="t1")),
    "a command stays open in an ended run": ("I7", row(1, state="delivered")),
    "a key made two runs": ("I8", do(lambda h: h.keyed.append(Keyed("runs", "k", "run-2")))),
    "a key made two commands": ("I8", row(1, key="k1")),
    "a run never ends": ("I9", unended),
    "a canary shows": ("I10", do(lambda h: h.leaks.append(Leak("manager.db", "base64")))),
    "a tenant sees another's row": (
        "I11",
        do(lambda h: h.shown.append(Shown("acme", "rival", "/runs"))),
    ),
    "a project sees another's row": (
        "I11",
        do(lambda h: h.shown.append(Shown("acme/app", "acme/web", "/runs"))),
    ),
    "a tenant sees a row of one whose name is longer": (
        "I11",
        do(lambda h: h.shown.append(Shown("acme", "acmes", "/runs"))),
    ),
    "a lease ends for a report of nobody": ("I12", do(lambda h: h.reported.clear())),
    "who was reported gone goes on": (
        "I12",
        do(lambda h: h.acked.append(Acked(4.5, 4.6, RUN, 1, 5, 9, duplicate=False))),
    ),
}


def broken(history: History) -> set[str]:
    return {violation.invariant for violation in check(history)}


def test_a_clean_history_has_nothing_wrong():
    assert [str(violation) for violation in check(make_history())] == []


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_is_broken_is_found(name: str):
    invariant, mutate = MUTATIONS[name]
    history = make_history()
    mutate(history)
    assert invariant in broken(history)


def test_each_invariant_has_a_mutation():
    assert len({invariant for invariant, _ in MUTATIONS.values()}) == len(INVARIANTS)


def test_an_answer_that_was_lost_is_no_violation():
    """What nobody was told may be there or not."""
    history = make_history()
    del history.acked[1]
    assert check(history) == []
    final = final_of(history)
    log, rows = final.log[:-1], list(final.commands)
    history.final[RUN] = FinalRun(RUN, "claimed", None, len(log), log, rows, must_end=False)
    history.copies.clear()
    assert check(history) == []


def test_any_loss_of_acknowledged_events_is_found():
    """Whatever single event is lost or doubled somewhere in the log."""
    rng = random.Random(7)
    for _ in range(100):
        history = copy.deepcopy(make_history())
        log = final_of(history).log
        place = rng.randrange(len(log))
        if rng.random() < 0.5:
            del log[place]
        else:
            log.insert(place, log[place])
        if rng.random() < 0.5:
            log[:] = [replace(event, seq=seq) for seq, event in enumerate(log, 1)]
            final_of(history).last_seq = len(log)
        assert check(history) != []
