"""Who may run beside whom, among the suspects of a crash."""

from queuekit.worker.isolation_gate import IsolationGate
from queuekit_testing.kit import in_thread
from support.waiting import PATIENCE, wait_until


def test_suspects_run_beside_each_other() -> None:
    """As long as none of them has to be alone."""
    gate = IsolationGate()

    assert [gate.enter(exclusive=False, patience=0), gate.enter(exclusive=False, patience=0)] == [True, True]
    assert gate.enter(exclusive=True, patience=0) is False


def test_one_that_must_be_alone_is() -> None:
    """Nobody enters until it has left."""
    gate = IsolationGate()

    entered = gate.enter(exclusive=True, patience=0)
    others = [gate.enter(exclusive=False, patience=0), gate.enter(exclusive=True, patience=0)]
    gate.leave(exclusive=True)

    assert (entered, others) == (True, [False, False])
    assert gate.enter(exclusive=False, patience=0) is True


def test_leaving_others_does_not_open_for_more() -> None:
    """Each has its own leave."""
    gate = IsolationGate()
    gate.enter(exclusive=False, patience=0)
    gate.enter(exclusive=False, patience=0)

    gate.leave(exclusive=False)
    too_early = gate.enter(exclusive=True, patience=0)
    gate.leave(exclusive=False)

    assert (too_early, gate.enter(exclusive=True, patience=0)) == (False, True)


def test_one_that_must_be_alone_waits_for_the_others_to_leave() -> None:
    """A moment in its thread is less than to be put off."""
    gate = IsolationGate()
    gate.enter(exclusive=False, patience=0)

    def nobody_else_enters() -> bool:
        entered = gate.enter(exclusive=False, patience=0)
        if entered:
            gate.leave(exclusive=False)
        return not entered

    waiting = in_thread(lambda: gate.enter(exclusive=True, patience=PATIENCE))
    wait_until(nobody_else_enters, what="one that waits to be alone")
    gate.leave(exclusive=False)

    assert waiting.result(PATIENCE) is True


def test_others_wait_until_it_has_been_alone() -> None:
    """Also a second one that must be."""
    gate = IsolationGate()
    gate.enter(exclusive=True, patience=0)

    waiting = [in_thread(lambda: gate.enter(exclusive=True, patience=PATIENCE)) for _ in range(2)]
    gate.leave(exclusive=True)
    wait_until(lambda: any(one.done() for one in waiting), what="the next one")
    before = [one.done() for one in waiting]
    gate.leave(exclusive=True)

    assert sorted(before) == [False, True]
    assert [one.result(PATIENCE) for one in waiting] == [True, True]


def test_who_has_waited_in_vain_is_in_nobodys_way() -> None:
    """What would not be alone for too long is put off, and the others come in again."""
    gate = IsolationGate()
    gate.enter(exclusive=False, patience=0)

    exclusive = gate.enter(exclusive=True, patience=0.01)

    assert (exclusive, gate.enter(exclusive=False, patience=0)) == (False, True)
