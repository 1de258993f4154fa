"""Holds a recorded history against the control plane's invariants; pure.

`check` returns what is wrong, in words, with the invariant's number. Each invariant is a function
of its own over the history, and `tests/faults/test_checker.py` breaks each of them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from faults.history import FinalRun, History, Logged, is_within

CLOSED = {"completed", "failed", "cancelled", "rejected", "superseded", "expired"}
TURN = "turn"
ENDS_OF_A_LEASE = {"run-claimed", "run-released", "run-lease-expired", "run-terminal"}
EXITED = "runner-crashed"
ACKNOWLEDGED = {"command-acknowledged", "interrupt-command-acknowledged"}


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold."""

    invariant: str
    run: str
    what: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.invariant} {self.run}: {self.what}"


Finding = Iterator[Violation]


def check(history: History, *, limit: int = 50) -> list[Violation]:
    """What the history shows to be wrong; at most `limit` findings per invariant."""
    found: list[Violation] = []
    for invariant in INVARIANTS:
        for number, violation in enumerate(invariant(history)):
            if number >= limit:
                break
            found.append(violation)
    return found


def acknowledged_is_kept(history: History) -> Finding:
    """I1: every acknowledged event is in the log, as it was sent; and nothing else is."""
    sent = _sent(history)
    through: dict[tuple[str, int], int] = defaultdict(int)
    for ack in history.acked:
        key = ack.run, ack.epoch
        through[key] = max(through[key], ack.through)
    for key in sent.keys() | through.keys():
        run, epoch = key
        log = history.final[run].log if run in history.final else []
        kept = {e.producer_seq: e.digest for e in log if e.epoch == epoch}
        for producer_seq in range(1, through[key] + 1):
            if producer_seq not in kept:
                yield Violation("I1", run, f"epoch {epoch}: acknowledged {producer_seq} is lost")
        for producer_seq, digest in kept.items():
            wanted = sent[key].get(producer_seq or 0)
            if wanted is not None and digest not in wanted:
                yield Violation("I1", run, f"epoch {epoch}: {producer_seq} is not what was sent")
            if wanted is None and sent[key]:
                yield Violation("I1", run, f"epoch {epoch}: {producer_seq} was never sent")


def seqs_have_no_gap(history: History) -> Finding:
    """I2: per run, seq = 1..n, and no answer named a seq that is not there."""
    for final in history.final.values():
        seqs = [event.seq for event in final.log]
        if seqs != list(range(1, len(seqs) + 1)):
            yield Violation("I2", final.run, f"{_first_break(seqs)} in {len(seqs)} events")
        if final.last_seq != len(seqs):
            yield Violation("I2", final.run, f"last seq {final.last_seq}, {len(seqs)} events")
    for ack in history.acked:
        if ack.run in history.final and ack.last_seq > len(history.final[ack.run].log):
            yield Violation("I2", ack.run, f"seq {ack.last_seq} was answered and is gone")


def producers_count_on(history: History) -> Finding:
    """I3: per run and epoch, producer seq is 1..k in the order of the log; nothing is told twice.

    An event that a later attempt told again for a dead one counts where it came from.
    """
    for final in history.final.values():
        direct: dict[int, list[int]] = defaultdict(list)
        origins: Counter[tuple[int, int]] = Counter()
        for event in final.log:
            if event.epoch is None:
                continue
            direct[event.epoch].append(event.producer_seq or 0)
            if event.origin is not None:
                origins[event.origin] += 1
        for epoch, seqs in direct.items():
            if seqs != list(range(1, len(seqs) + 1)):
                yield Violation("I3", final.run, f"epoch {epoch}: {_first_break(seqs)}")
        for (epoch, seq), count in origins.items():
            if count > 1:
                yield Violation("I3", final.run, f"epoch {epoch}: {seq} is there {count} times")


def copies_are_true(history: History) -> Finding:
    """I4: every subscriber saw a prefix of the log from where it began, each event once."""
    for copy in history.copies:
        final = history.final.get(copy.run)
        log = final.log if final else []
        who = f"subscriber {copy.subscriber}"
        for place, (seq, digest) in enumerate(zip(copy.seqs, copy.digests, strict=True)):
            if seq != copy.after + place + 1:
                yield Violation("I4", copy.run, f"{who} saw {seq} at place {place + 1}")
                break
            if seq > len(log) or log[seq - 1].digest != digest:
                yield Violation("I4", copy.run, f"{who} saw another event {seq} than the log has")
                break
        else:
            if copy.saw_end and copy.after + len(copy.seqs) != len(log):
                yield Violation("I4", copy.run, f"{who} was told the end before it")


def one_holder_at_a_time(history: History) -> Finding:
    """I5: epochs strictly increase; only the holder of the time is accepted."""
    for final in history.final.values():
        yield from _log_has_one_holder(final)
    holders: dict[tuple[str, int], set[str]] = defaultdict(set)
    for grant in history.granted:
        holders[grant.run, grant.epoch].add(grant.runner)
    for (run, epoch), runners in holders.items():
        if len(runners) > 1:
            yield Violation("I5", run, f"epoch {epoch} was given to {sorted(runners)}")
    given: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for grant in history.granted:
        given[grant.run].append((grant.at, grant.epoch))
    for ack in history.acked:
        newer = [e for at, e in given[ack.run] if at < ack.asked_at and e > ack.epoch]
        if newer and not ack.duplicate:
            what = f"a write of epoch {ack.epoch} was accepted while {max(newer)} was granted"
            yield Violation("I5", ack.run, what)
    for forged in history.forged:
        if forged.accepted:
            yield Violation("I5", forged.run, f"accepted: {forged.what}")


def _log_has_one_holder(final: FinalRun) -> Finding:
    newest, holds = 0, False
    for event in final.log:
        if event.epoch is not None and (event.epoch != newest or not holds):
            what = (
                f"seq {event.seq}: epoch {event.epoch} wrote under {newest if holds else 'nobody'}"
            )
            yield Violation("I5", final.run, what)
            return
        if event.phase == "run-claimed":
            epoch = int(event.facts["epoch"])
            if epoch <= newest:
                yield Violation("I5", final.run, f"seq {event.seq}: {epoch} follows {newest}")
            newest = epoch
        if event.phase in ENDS_OF_A_LEASE:
            holds = event.phase == "run-claimed"


def ends_happen_once(history: History) -> Finding:
    """I6: one terminal per command and run at most; states are what the log says."""
    for final in history.final.values():
        yield from _run_ends_once(final)
        yield from _commands_end_once(final)
        for finding in final.findings:
            yield Violation("I6", final.run, f"verification: {finding}")


def _run_ends_once(final: FinalRun) -> Finding:
    ends = [event for event in final.log if event.phase == "run-terminal"]
    if len(ends) > 1:
        yield Violation("I6", final.run, f"the run ended {len(ends)} times")
    told = str(ends[0].facts["terminalStatus"]) if ends else None
    if told != final.terminal_status:
        what = f"the log says {told}, the run says {final.terminal_status}"
        yield Violation("I6", final.run, what)
    if ends and ends[0].seq != len(final.log):
        yield Violation("I6", final.run, "events follow the end of the run")


def _commands_end_once(final: FinalRun) -> Finding:
    ends: dict[str, list[str]] = defaultdict(list)
    for event in final.log:
        if event.phase == "command-terminal":
            ends[_command_of(event)].append(str(event.facts.get("state")))
    for command, states in ends.items():
        if len(states) > 1:
            yield Violation("I6", final.run, f"command {command} ended as {states}")
    for row in final.commands:
        if row.id in ends and ends[row.id][0] != row.state:
            what = f"command {row.id} is {row.state}, the log says {ends[row.id][0]}"
            yield Violation("I6", final.run, what)


def commands_apply_once(history: History) -> Finding:
    """I7: commands count from 1; none is taken up again by the same or after its end; in order."""
    for final in history.final.values():
        numbers = [row.cmd_seq for row in final.commands]
        if numbers != list(range(1, len(numbers) + 1)):
            yield Violation("I7", final.run, f"commands count {_first_break(numbers)}")
        for row in final.commands:
            if final.terminal_status is not None and row.state not in CLOSED:
                yield Violation("I7", final.run, f"command {row.id} is {row.state} for ever")
        for what in _wrongly_taken(final):
            yield Violation("I7", final.run, what)


def _wrongly_taken(final: FinalRun) -> Iterator[str]:
    turns = {row.id: row.cmd_seq for row in final.commands if row.kind == TURN}
    taken: set[tuple[int, str]] = set()
    newest: dict[int, int] = defaultdict(int)
    closed: set[str] = set()
    for event in final.log:
        command = _command_of(event)
        if event.phase == "command-terminal":
            closed.add(command)
        if event.phase not in ACKNOWLEDGED or event.origin is None:
            continue
        epoch = event.origin[0]  # told again for a dead one, it counts where it came from
        if command in closed and event.epoch == epoch:
            yield f"command {command} taken up after its end"
        if (epoch, command) in taken:
            yield f"epoch {epoch} took {command} up twice"
        taken.add((epoch, command))
        if turns.get(command, newest[epoch]) < newest[epoch]:
            yield f"epoch {epoch} took {command} up too late"
        newest[epoch] = turns.get(command, newest[epoch])


def keys_mean_one_thing(history: History) -> Finding:
    """I8: the same key was answered with the same thing, and made one."""
    made: dict[tuple[str, str], set[str]] = defaultdict(set)
    for keyed in history.keyed:
        made[keyed.scope, keyed.key].add(keyed.made)
    for (scope, key), things in made.items():
        if len(things) > 1:
            yield Violation("I8", scope, f"key {key} made {sorted(things)}")
    for final in history.final.values():
        keys = Counter(row.key for row in final.commands if row.key is not None)
        for key, count in keys.items():
            if count > 1:
                yield Violation("I8", final.run, f"key {key} made {count} commands")


def nobody_waits_for_ever(history: History) -> Finding:
    """I9: every run that had all it needs came to its end."""
    for final in history.final.values():
        if final.must_end and final.terminal_status is None:
            yield Violation("I9", final.run, f"still {final.status}")


def no_secret_shows(history: History) -> Finding:
    """I10: no canary anywhere."""
    for leak in history.leaks:
        yield Violation("I10", leak.place, f"holds a canary ({leak.form})")


def tenants_are_apart(history: History) -> Finding:
    """I11: nobody was shown a row of another tenant, or of another project than the caller's."""
    for shown in history.shown:
        if not is_within(shown.owner, shown.caller):
            yield Violation("I11", shown.place, f"{shown.caller} saw a row of {shown.owner}")


def reports_end_their_own(history: History) -> Finding:
    """I12: a lease ends as that of a runner that is gone only when its holder was reported so.

    Once an answer said that it ended, nothing of its holder is accepted any more.
    """
    known = {(grant.run, grant.epoch) for grant in history.granted}
    reported = {(report.run, report.epoch) for report in history.reported}
    for final in history.final.values():
        for event in final.log:
            if event.phase != "run-lease-expired" or event.facts.get("failureKind") != EXITED:
                continue
            ended = final.run, int(event.facts["epoch"])
            if ended in known - reported:
                what = f"seq {event.seq}: epoch {ended[1]} ended, whose holder nobody reported"
                yield Violation("I12", final.run, what)
    over = {(r.run, r.epoch): r.lapsed_at for r in history.reported if r.lapsed_at is not None}
    for ack in history.acked:
        ended_at = over.get((ack.run, ack.epoch))
        if ended_at is not None and ack.asked_at > ended_at and not ack.duplicate:
            yield Violation("I12", ack.run, f"a write of epoch {ack.epoch} came after its report")


INVARIANTS: tuple[Callable[[History], Finding], ...] = (
    acknowledged_is_kept,
    seqs_have_no_gap,
    producers_count_on,
    copies_are_true,
    one_holder_at_a_time,
    ends_happen_once,
    commands_apply_once,
    keys_mean_one_thing,
    nobody_waits_for_ever,
    no_secret_shows,
    tenants_are_apart,
    reports_end_their_own,
)


def _sent(history: History) -> dict[tuple[str, int], dict[int, set[int]]]:
    """Digests that were sent, by run and epoch and producer seq."""
    sent: dict[tuple[str, int], dict[int, set[int]]] = defaultdict(dict)
    for tried in history.tried:
        of_epoch = sent[tried.run, tried.epoch]
        for producer_seq, digest in enumerate(tried.digests, tried.first):
            of_epoch.setdefault(producer_seq, set()).add(digest)
    return sent


def _command_of(event: Logged) -> str:
    return event.command or str(event.facts.get("commandId"))


def _first_break(numbers: Iterable[int]) -> str:
    wanted = 1
    for number in numbers:
        if number != wanted:
            return f"{number} stands where {wanted} should"
        wanted += 1
    return "complete"
