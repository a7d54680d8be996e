"""Who may run beside whom, among the suspects of a crash."""

from queuekit.worker.isolation_gate import Company
from queuekit_testing.kit import in_thread
from support.waiting import PATIENCE, wait_until


def test_suspects_run_beside_each_other() -> None:
    """As long as none of them has to be alone."""
    company = Company()

    assert [company.enter(alone=False, patience=0), company.enter(alone=False, patience=0)] == [True, True]
    assert company.enter(alone=True, patience=0) is False


def test_one_that_must_be_alone_is() -> None:
    """Nobody enters until it has left."""
    company = Company()

    entered = company.enter(alone=True, patience=0)
    others = [company.enter(alone=False, patience=0), company.enter(alone=True, patience=0)]
    company.leave(alone=True)

    assert (entered, others) == (True, [False, False])
    assert company.enter(alone=False, patience=0) is True


def test_leaving_others_does_not_open_for_more() -> None:
    """Each has its own leave."""
    company = Company()
    company.enter(alone=False, patience=0)
    company.enter(alone=False, patience=0)

    company.leave(alone=False)
    too_early = company.enter(alone=True, patience=0)
    company.leave(alone=False)

    assert (too_early, company.enter(alone=True, patience=0)) == (False, True)


def test_one_that_must_be_alone_waits_for_the_others_to_leave() -> None:
    """A moment in its thread is less than to be put off."""
    company = Company()
    company.enter(alone=False, patience=0)

    def nobody_else_enters() -> bool:
        entered = company.enter(alone=False, patience=0)
        if entered:
            company.leave(alone=False)
        return not entered

    waiting = in_thread(lambda: company.enter(alone=True, patience=PATIENCE))
    wait_until(nobody_else_enters, what="one that waits to be alone")
    company.leave(alone=False)

    assert waiting.result(PATIENCE) is True


def test_others_wait_until_it_has_been_alone() -> None:
    """Also a second one that must be."""
    company = Company()
    company.enter(alone=True, patience=0)

    waiting = [in_thread(lambda: company.enter(alone=True, patience=PATIENCE)) for _ in range(2)]
    company.leave(alone=True)
    wait_until(lambda: any(one.done() for one in waiting), what="the next one")
    before = [one.done() for one in waiting]
    company.leave(alone=True)

    assert sorted(before) == [False, True]
    assert [one.result(PATIENCE) for one in waiting] == [True, True]


def test_who_has_waited_in_vain_is_in_nobodys_way() -> None:
    """What would not be alone for too long is put off, and the others come in again."""
    company = Company()
    company.enter(alone=False, patience=0)

    alone = company.enter(alone=True, patience=0.01)

    assert (alone, company.enter(alone=False, patience=0)) == (False, True)
