"""The circuit breaker: when it opens, admits trial requests and closes."""

from kataven.tenancy.serving.breaker import Breaker


def test_breaker_opens_after_the_given_number_of_consecutive_failures() -> None:
    breaker = Breaker(failures=2, shortest_pause=1, longest_pause=4)
    breaker.failed(0)
    breaker.succeeded()
    breaker.failed(0)
    assert breaker.admit(0) == 0
    breaker.failed(0)
    assert breaker.is_open
    assert breaker.admit(0.25) == 1


def test_one_trial_request_is_admitted_per_pause_and_pauses_double_up_to_the_longest() -> None:
    breaker = Breaker(failures=1, shortest_pause=1, longest_pause=4)
    now, pauses = 0.0, []
    for _ in range(4):
        breaker.failed(now)
        pauses.append(breaker.admit(now))
        now += pauses[-1]
        assert breaker.admit(now) == 0, "the trial request"
        assert breaker.admit(now) > 0, "other requests during the trial"
    assert pauses == [1, 2, 4, 4]


def test_success_closes_the_breaker_and_resets_the_pause() -> None:
    breaker = Breaker(failures=1, shortest_pause=1, longest_pause=4)
    for now in (0, 1, 3):
        breaker.failed(now)
    assert breaker.admit(10) == 0
    breaker.succeeded()
    assert [breaker.admit(10), breaker.is_open] == [0, False]
    breaker.failed(10)
    assert breaker.admit(10) == 1


def test_an_inconclusive_trial_allows_another_trial() -> None:
    breaker = Breaker(failures=1, shortest_pause=1, longest_pause=4)
    breaker.failed(0)
    assert breaker.admit(1) == 0
    breaker.unsettled()
    assert breaker.admit(1) == 0
