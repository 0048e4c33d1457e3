"""The breaker: how often a database that is down is asked."""

from kataven.tenancy.serving.breaker import Breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(failures=2, shortest_pause=1, most_pause=4)
    breaker.failed(0)
    breaker.succeeded()
    breaker.failed(0)
    assert breaker.admit(0) == 0
    breaker.failed(0)
    assert breaker.is_open
    assert breaker.admit(0.25) == 1


def test_one_request_tries_at_a_time_and_the_pause_doubles_up_to_the_longest() -> None:
    breaker = Breaker(failures=1, shortest_pause=1, most_pause=4)
    now, pauses = 0.0, []
    for _ in range(4):
        breaker.failed(now)
        pauses.append(breaker.admit(now))
        now += pauses[-1]
        assert breaker.admit(now) == 0, "the one that tries"
        assert breaker.admit(now) > 0, "the others meanwhile"
    assert pauses == [1, 2, 4, 4]


def test_success_closes_it_and_forgets_the_pauses() -> None:
    breaker = Breaker(failures=1, shortest_pause=1, most_pause=4)
    for now in (0, 1, 3):
        breaker.failed(now)
    assert breaker.admit(10) == 0
    breaker.succeeded()
    assert [breaker.admit(10), breaker.is_open] == [0, False]
    breaker.failed(10)
    assert breaker.admit(10) == 1


def test_a_trial_that_learned_nothing_leaves_the_next_one_free() -> None:
    breaker = Breaker(failures=1, shortest_pause=1, most_pause=4)
    breaker.failed(0)
    assert breaker.admit(1) == 0
    breaker.unsettled()
    assert breaker.admit(1) == 0
