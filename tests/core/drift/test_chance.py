import numpy as np

from edge_agent.core.drift.chance import Chance


def test_the_numbers_are_those_of_the_published_generator() -> None:
    first_two = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]  # SplitMix64 from 0
    assert Chance(0).uniforms(2).tolist() == [(number >> 11) * 2.0**-53 for number in first_two]


def test_a_saved_position_goes_on_where_it_was() -> None:
    whole = Chance(7).uniforms(10)
    parts = Chance(7)
    first = parts.uniforms(2, 2)
    rest = Chance(parts.seed, parts.position).uniforms(6)
    assert np.concatenate([first.ravel(), rest]).tolist() == whole.tolist()


def test_numbers_are_uniform_between_0_and_1() -> None:
    drawn = Chance(2**64 - 1).uniforms(20_000)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert np.abs(np.quantile(drawn, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]).max() < 0.02
