"""Schedules against values worked out by hand in float64."""
from __future__ import annotations

import math

import numpy as np
import pytest

from thor import schedules


def test_thor_learning_rate_follows_the_published_formula_with_both_halvings():
    rate = schedules.thor_learning_rate(450, 10, initial=0.05803, decay=4.0839, end_epoch=53, decay_epochs=39)
    assert rate.dtype == np.float32 and rate.shape == (450,)
    expected = {0: 0.05803 * (1 - 0.1 / 53) ** 4.0839,
                9: 0.05803 * (52 / 53) ** 4.0839,
                388: 0.05803 * (1 - 38.9 / 53) ** 4.0839,
                389: 0.5 * 0.05803 * (14 / 53) ** 4.0839,
                398: 0.5 * 0.05803 * (1 - 39.9 / 53) ** 4.0839,
                399: 0.25 * 0.05803 * (13 / 53) ** 4.0839,
                449: 0.25 * 0.05803 * (8 / 53) ** 4.0839}
    for step, value in expected.items():
        assert rate[step] == np.float32(value), step


def test_thor_learning_rate_stays_at_zero_after_its_end():
    rate = schedules.thor_learning_rate(6, 2, initial=1.0, decay=2.0, end_epoch=2)
    np.testing.assert_array_equal(rate, np.float32([0.5625, 0.25, 0.0625, 0, 0, 0]))


def test_thor_damping_changes_by_its_rate_every_ten_epochs():
    damping = schedules.thor_damping(100, 5, initial=0.03, rate=0.50036)
    assert damping.dtype == np.float32 and damping.shape == (100,)
    assert damping[49] == np.float32(0.03 * 0.50036)
    assert damping[99] == np.float32(0.03 * 0.50036 ** 2)
    assert damping[0] == np.float32(0.03 * 0.50036 ** 0.02)


def test_polynomial_is_the_published_bert_schedule():
    rate = schedules.polynomial(30000, initial=0.006464, final=1e-6, power=2.0)
    assert rate[0] == np.float32(0.006464)
    assert rate[15000] == np.float32((0.006464 - 1e-6) * 0.25 + 1e-6)
    assert rate[29999] == np.float32((0.006464 - 1e-6) * (1 / 30000) ** 2 + 1e-6)


def test_polynomial_holds_its_final_value():
    np.testing.assert_array_equal(schedules.polynomial(6, 1.0, 0.5, 1.0, schedule_steps=4),
                                  np.float32([1, 0.875, 0.75, 0.625, 0.5, 0.5]))


def test_cosine():
    rate = schedules.cosine(8, 0.4, 0.1)
    assert rate[0] == np.float32(0.4)
    assert rate[4] == np.float32(0.25)
    assert rate[1] == np.float32(0.1 + 0.3 * (1 + math.cos(math.pi / 8)) / 2)
    np.testing.assert_array_equal(schedules.cosine(5, 1.0, schedule_steps=2), np.float32([1, 0.5, 0, 0, 0]))


def test_constant():
    np.testing.assert_array_equal(schedules.constant(3, 0.1), np.float32([0.1, 0.1, 0.1]))


def test_warmup_grows_linearly_to_the_first_value_and_then_starts_the_schedule():
    rate = schedules.with_warmup(schedules.polynomial(4, 1.0, 0.0), 4)
    np.testing.assert_array_equal(rate, np.float32([0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25]))
    assert rate.dtype == np.float32


def test_warmup_of_no_steps_changes_nothing():
    schedule = schedules.constant(3, 0.2)
    np.testing.assert_array_equal(schedules.with_warmup(schedule, 0), schedule)


@pytest.mark.parametrize("call, message", [
    (lambda: schedules.constant(0, 1.0), "total_steps=0; must be an int >= 1"),
    (lambda: schedules.cosine(2.5, 1.0), "total_steps=2.5; must be an int >= 1"),
    (lambda: schedules.constant(2 ** 31, 1.0), "total_steps=2147483648; must be an int >= 1; use at most 2147483647"),
    (lambda: schedules.cosine(5, 1.0, schedule_steps=10 ** 5000),
     "schedule_steps=an int of too many digits; must be an int >= 1; use at most 2147483647"),
    (lambda: schedules.thor_damping(5, 0, 1.0, 0.5), "steps_per_epoch=0; must be > 0"),
    (lambda: schedules.thor_damping(5, 1, 1.0, 0), "rate=0; must be > 0"),
    (lambda: schedules.thor_learning_rate(5, 1, 1.0, 1.0, 0), "end_epoch=0; must be > 0"),
    (lambda: schedules.polynomial(5, 1.0, 0.0, power=-1), "power=-1; must be > 0"),
    (lambda: schedules.with_warmup(schedules.constant(1, 1.0), -1), "warmup_steps=-1; must be an int >= 0"),
])
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError) as raised:
        call()
    assert str(raised.value).startswith(message)
