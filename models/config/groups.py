"""Groups of parameters in a configuration: chosen by a regular expression on their names."""
from __future__ import annotations

import re
from typing import Any

from thor.checks import Check, number, shortened, shown

VALUES = {"lr_factor": number(minimum=0), "weight_decay": number(minimum=0)}


def parameter_groups() -> Check:
    """A list of ``{match: EXPRESSION, lr_factor: number, weight_decay: number}``, kept as a tuple of dicts."""
    def parse(value: Any) -> tuple[dict[str, Any], ...]:
        if not isinstance(value, (list, tuple)):
            raise ValueError
        return tuple(_group(group) for group in value)
    return Check("a list of {match, lr_factor, weight_decay}", parse)


def _group(group: Any) -> dict[str, Any]:
    """A group as it is kept; ValueError with what to do."""
    if not isinstance(group, dict):
        raise ValueError("write [{match: bias, weight_decay: 0}]")
    for key in group:
        if key != "match" and key not in VALUES:
            raise ValueError(f"remove {shortened(str(key))}, a group has match, {' and '.join(VALUES)}")
    if not isinstance(group.get("match"), str) or not group["match"]:
        raise ValueError("give each group a regular expression match, in quotes")
    try:
        re.compile(group["match"])
    except (re.error, RecursionError, OverflowError) as error:
        reason = error if isinstance(error, re.error) else "too deep or too large"
        raise ValueError(f"correct the regular expression {shown(group['match'])}: {reason}") from None
    kept = {key: _number(key, group[key]) for key in VALUES if key in group}
    if not kept:
        raise ValueError(f"give the group of {shown(group['match'])} {' or '.join(VALUES)}")
    return {"match": group["match"], **kept}


def _number(key: str, value: Any) -> float:
    try:
        return VALUES[key].parse(value)
    except ValueError as error:
        reason = f", {error}" if str(error) else ""
        raise ValueError(f"make {key} {VALUES[key].wanted}{reason}") from None
