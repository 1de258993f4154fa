"""What is held of a thread's notifications: a tail without holes, within a bound."""

from treadle.appserver.event_tail import EventTail, Told
from treadle.domain.event_log import STRIDE


def told(seq: int, method: str = "item/started", size: int = 10) -> Told:
    return Told(seq, method, broadcast=False, frame=b"x" * size)


def numbers(tail: EventTail, after: int = 0) -> list[int]:
    return [entry.seq for entry in tail.after(after)]


def test_what_follows_is_held_and_found_by_its_number():
    tail = EventTail()
    for seq in (STRIDE, STRIDE + 1, STRIDE + 2, 2 * STRIDE, 2 * STRIDE + 1):
        tail.add(told(seq))
    assert tail.floor == STRIDE - 1
    assert numbers(tail, STRIDE + 1) == [STRIDE + 2, 2 * STRIDE, 2 * STRIDE + 1]
    assert numbers(tail, 3 * STRIDE) == []


def test_a_jump_leaves_nothing_from_before_it():
    tail = EventTail()
    tail.add(told(1))
    tail.add(told(5 * STRIDE + 1))
    assert (tail.floor, numbers(tail)) == (5 * STRIDE, [5 * STRIDE + 1])


def test_the_oldest_goes_at_the_bound_and_most_of_it_after_a_turn():
    tail = EventTail(busy_bytes=5000, idle_bytes=1000)
    for seq in range(1, 20):
        tail.add(told(seq, size=300))
    assert numbers(tail)[0] == tail.floor + 1
    assert len(numbers(tail)) == 10
    tail.add(told(STRIDE, "turn/completed", size=300))
    assert numbers(tail) == [19, STRIDE]


def test_one_that_is_larger_than_the_bound_is_not_held():
    tail = EventTail(busy_bytes=100)
    tail.add(told(1, size=500))
    assert (tail.floor, numbers(tail)) == (1, [])
