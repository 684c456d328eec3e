"""The split procedure on factors with a known answer."""
from __future__ import annotations

import numpy as np
import pytest

from models.tune_split.__main__ import draw, report
from models.tune_split.choice import candidate_sizes, choose_split, find_crossing, share_within_limit, spectral_loss


def block_factor(block: int, rows: int) -> np.ndarray:
    """Blocks of ``block`` rows that are all ones, the first of them the largest: splitting finer loses known parts."""
    factor = np.zeros((rows, rows))
    for place, start in enumerate(range(0, rows, block)):
        factor[start:start + block, start:start + block] = 1.0 / (1 + place)
    return factor


@pytest.mark.parametrize("split, expected", [(1, 1 - 1 / 32), (8, 1 - 8 / 32), (16, 0.5), (32, 0.0), (64, 0.0),
                                             (99, 0.0)])
def test_loss_is_the_part_of_the_largest_eigenvalue_outside_the_blocks(split, expected):
    assert spectral_loss(block_factor(32, 96), split) == pytest.approx(expected, abs=1e-12)


def test_loss_is_that_of_the_definition():
    rows = np.random.default_rng(0).standard_normal((50, 20)) + 1.0
    factor = rows.T @ rows
    split = np.where(np.arange(20)[:, None] // 6 == np.arange(20)[None] // 6, factor, 0.0)
    expected = 1 - np.sqrt(np.linalg.eigvalsh(split @ split.T)[-1] / np.linalg.eigvalsh(factor @ factor.T)[-1])
    assert spectral_loss(factor, 6) == pytest.approx(expected, rel=1e-9)


def test_large_factors_take_the_same_definition():
    factor = block_factor(400, 800)
    assert spectral_loss(factor, 100) == pytest.approx(0.75, abs=1e-6)
    assert spectral_loss(np.zeros((4, 4)), 1) == 0.0


def test_share_counts_factors_under_one_percent():
    factors = [block_factor(16, 64), block_factor(32, 64), block_factor(64, 64), np.eye(64)]
    assert [share_within_limit(factors, n) for n in (1, 16, 32, 64)] == [0.25, 0.5, 0.75, 1.0]


def test_candidates_end_at_the_first_that_holds_the_largest_factor():
    assert candidate_sizes(100) == (1, 16, 32, 64, 128)
    assert candidate_sizes(128) == (1, 16, 32, 64, 128)
    assert candidate_sizes(3) == (1, 16)


def test_crossing_of_the_published_curves_rounds_to_128():
    """ResNet-50: the curves cross at 106, between 64 and 128."""
    weight = (106 - 64) / 64
    share, speed = [0.0, 0.2, 0.9], [1.0, 0.2 + 2 * weight, 0.9 - 2 * (1 - weight)]
    crossing = find_crossing((1, 64, 128), share, speed)
    assert crossing == pytest.approx(106)
    assert min((1, 64, 128), key=lambda n: abs(n - crossing)) == 128


def test_curves_that_do_not_cross():
    assert find_crossing((1, 16), (0.1, 0.2), (1.0, 0.9)) is None
    assert find_crossing((1, 16), (1.0, 1.0), (1.0, 0.1)) == 1.0
    choice = choose_split([np.ones((40, 40))], lambda n: 1.0, candidates=(1, 16, 32))
    assert (choice.crossing, choice.split_dim) == (None, 32)


def test_the_whole_procedure_on_synthetic_factors(tmp_path):
    """Half of the factors fit blocks of 16, all fit 64; the inverse takes n times as long."""
    factors = [block_factor(16, 128), block_factor(16, 96), block_factor(64, 128), block_factor(64, 64)]
    choice = choose_split(factors, lambda n: 1e-6 * (1 + n / 32))
    assert choice.candidates == (1, 16, 32, 64, 128)
    assert choice.share == (0.0, 0.5, 0.5, 1.0, 1.0)
    assert choice.speed == pytest.approx([1.0, 33 / 48, 33 / 64, 33 / 96, 33 / 160])
    # between 32 and 64: 0.5 + 0.5 w = 33/64 + (33/96 - 33/64) w
    weight = (33 / 64 - 0.5) / (0.5 - (33 / 96 - 33 / 64))
    assert choice.crossing == pytest.approx(32 + 32 * weight)
    assert choice.split_dim == 32
    assert report(choice).splitlines()[-1] == "the curves cross at 33; use optimizer.split_dim: 32"
    draw(choice, tmp_path / "deep" / "split.png")
    assert (tmp_path / "deep" / "split.png").read_bytes()[:4] == b"\x89PNG"


def test_no_factors_is_said():
    with pytest.raises(ValueError, match=r"factors=\[\]; must hold at least one"):
        choose_split([], lambda n: 1.0)
