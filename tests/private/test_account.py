"""The account of privacy: epsilon against Opacus and closed forms, the budget kept and told."""

from __future__ import annotations

import math

import pytest
from opacus.accountants import RDPAccountant  # type: ignore[import-untyped]  # it ships no types
from scipy.optimize import brentq
from scipy.stats import norm

from radsynth.tasks._differential import Account, account, never_less


@pytest.mark.parametrize(("noise", "share", "steps"), [(0.8, 0.05, 300), (1.3, 0.01, 4000), (3.0, 1.0, 20)])
def test_epsilon_is_that_of_opacus(noise: float, share: float, steps: int) -> None:
    accountant = RDPAccountant()
    for _ in range(steps):
        accountant.step(noise_multiplier=noise, sample_rate=share)
    ours = Account(noise, share, 1e-5)
    assert ours.epsilon(steps) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-9)
    assert 0 == ours.epsilon(0) < ours.epsilon(1) < ours.epsilon(steps) < ours.epsilon(2 * steps)
    assert Account(2 * noise, share, 1e-5).epsilon(steps) < ours.epsilon(steps)
    assert Account(0.0, share, 1e-5).epsilon(steps) == math.inf


def exact_epsilon(noises: list[float], delta: float) -> float:
    """Of Gaussian mechanisms one after the other: one with mu^2 = sum of 1 / noise^2 (Dong, Roth and Su 2022), whose
    delta is known exactly (Balle and Wang 2018, theorem 8)."""
    mu = math.sqrt(sum(noise**-2 for noise in noises))
    return float(brentq(lambda e: norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu) - delta, 0, 200))


@pytest.mark.parametrize("noises", [(1.0, 2.0), (3.0, 7.0), (0.8, 5.0)])
def test_the_start_and_the_turns_add_up(noises: tuple[float, ...]) -> None:
    accountant = RDPAccountant()
    accountant.history = [*((noise, 1.0, 1) for noise in noises), (1.4, 0.05, 300)]
    ours = Account(1.4, 0.05, 1e-5, noises)
    assert ours.epsilon(300) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-9)
    assert Account(1.4, 0.05, 1e-5).epsilon(300) < ours.epsilon(300)
    exact = exact_epsilon([*noises, *[9.0] * 4], 1e-5)  # with everybody in every turn there is a closed form
    bound = Account(9.0, 1.0, 1e-5, noises).epsilon(4)
    assert exact < bound < 1.2 * exact, "a bound, and not a loose one"


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
def test_the_start_costs_its_share_of_the_budget(epsilon: float) -> None:
    found = account(epsilon, 1e-5, 0.05, 500, (0.1, 0.3))
    assert 0.97 * epsilon < found.epsilon(500) <= epsilon
    alone = account(epsilon, 1e-5, 1.0, 1).noise
    assert found.start == pytest.approx((alone / math.sqrt(0.1), alone / math.sqrt(0.3)), rel=1e-2)
    assert account(epsilon, 1e-5, 0.05, 500).noise < found.noise, "what the start takes, the turns must save"
    assert account(math.inf, 1e-5, 0.05, 500, (0.1, 0.3)).start == (0.0, 0.0)


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
def test_the_noise_keeps_the_budget_and_wastes_little_of_it(epsilon: float) -> None:
    found = account(epsilon, 1e-5, 0.05, 500)
    assert 0.97 * epsilon < found.epsilon(500) <= epsilon


@pytest.mark.parametrize(("epsilon", "words"), [(9.9901, "10.00"), (9.99, "9.99"), (0.0, "0.00"), (math.inf, "inf")])
def test_a_bound_is_never_told_as_less(epsilon: float, words: str) -> None:
    assert f"{never_less(epsilon):.2f}" == words
