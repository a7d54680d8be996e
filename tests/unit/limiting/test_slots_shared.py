"""Slots that messages share which one worker runs one after the other. Their search is in unit/worker."""

from queuekit.limiting.slots import SlotKey, SlotState, Waiter
from queuekit.limits import Concurrency


def waiter(id: str, number: int = 1) -> Waiter:
    """Return who waits."""
    return Waiter("default", id, f"{id}-{number}", number)


def shared(*ids: str, most: int = 1) -> SlotState:
    """Return the state of a key, one of whose slots messages share; one more waits."""
    state = SlotState(SlotKey("crm", "", Concurrency(most)), most, front=[*map(waiter, ids), waiter("last")])
    state.share([waiter(id) for id in ids], until=10.0)
    return state


def test_holders_of_one_slot_count_as_one() -> None:
    """Until the last of them leaves, however the record is read and written meanwhile."""
    state = shared("a", "b", "c")

    for id in ("b", "a"):
        state.leave(id, waiter(id).claim)
        state = SlotState.read(state.written(), state.place, 1)
        assert (state.in_use, state.first_holders()) == (1, [next(iter(state.holders))])
        assert state.advance(until=20.0, most=1) == []
    state.leave("c", waiter("c").claim)

    assert (state.in_use, state.sharing) == (0, 0)
    assert [one.id for one in state.advance(until=20.0, most=1)] == ["last"]


def test_message_that_is_delivered_again_has_no_part_in_a_slot_that_others_share() -> None:
    """The others may run where it was lost. The last of them has the slot for itself, also if delivered again."""
    state = shared("a", "b")

    state.give_up("a", waiter("a", 2).claim)
    assert not state.has_room("a", waiter("a", 2).claim)
    assert [*state.holders] == ["b"]

    state.give_up("b", waiter("b", 2).claim)
    assert state.has_room("b", waiter("b", 2).claim)


def test_older_delivery_takes_nobody_out_of_a_slot() -> None:
    """A worker that stood still may ask for what another has by now."""
    state = SlotState(SlotKey("crm", "", Concurrency(1)), 1, front=[waiter("a", 2), waiter("b")])
    state.share([waiter("a", 2), waiter("b")], until=10.0)

    state.give_up("a", waiter("a", 1).claim)

    assert [*state.holders] == ["a", "b"]


def test_slot_of_dead_holders_is_free_when_the_last_is_overdue() -> None:
    """Who shows a sign of life keeps it for all."""
    state = shared("a", "b")

    state.expire(11.0, {"b": 40.0})
    assert (state.in_use, [*state.holders]) == (1, ["b"])
    state.expire(41.0, {})

    assert (state.in_use, state.sharing) == (0, 0)
