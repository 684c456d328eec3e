"""Timing in turn."""
from __future__ import annotations

from models.turns import measure_in_turn


def test_sides_are_called_in_turn_and_only_timed_after_the_warm_up():
    order, now = [], [0.0]

    def side(name, seconds):
        def call():
            order.append(name)
            now[0] += seconds
        return call

    seconds = measure_in_turn({"a": side("a", 1.0), "b": side("b", 3.0)}, 2, 3, clock=lambda: now[0])
    assert "".join(order) == "ab" * 5
    assert seconds["a"].tolist() == [1.0] * 3
    assert seconds["b"].tolist() == [3.0] * 3
