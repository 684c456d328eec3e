"""From a file of weights to another, under other names."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mindspore import Parameter

from models.config import Config, changed
from models.session import prepare_network
from models.weights.files import check_suffix, read_weights, write_weights
from models.weights.forms import geometry_of, likeliest, schemes, weights_of
from models.weights.matching import Found, find, listed
from models.weights.scheme import HUGGING_FACE, TORCHVISION, ZOO, Scheme


def convert(config: Config, forms: tuple[str, str], source: Path, target: Path) -> list[str]:
    """Write the weights in ``source`` to ``target``; lines that say what was done.

    Args:
        config: of the network; the file must have all of its parameters, in their shapes, and no others.
        forms: whose names they have in source and target: of ``models.weights.scheme.FORMS``.
        source: file of weights; an optimizer's state and whatever else it holds is left out.
        target: a file that is not there yet.

    Raises:
        OSError, ValueError: one line about what cannot be used.
    """
    check_suffix(target, "TARGET")
    if target.exists():
        raise ValueError(f"TARGET={target}; must be a new file; give another name or remove it")
    contents = read_weights(source, "SOURCE")
    network, _ = prepare_network(changed(config, {"device.target": "CPU"}))
    weights = weights_of(config.model, network)
    before, after = (_scheme(config, weights, form, flag) for form, flag in zip(forms, ("--from", "--to")))
    found = find(weights, before, contents, f"SOURCE={source}")
    _refuse_others(config, weights, forms[0], found, contents, f"SOURCE={source}")
    arrays = {after.name(ours): value for ours, value in found.values.items()}
    if forms[1] == ZOO:
        own = {id(parameter) for parameter in weights.values()}
        # counts of dropout, which this zoo's networks have beside their weights
        arrays |= {p.name: p.asnumpy() for p in network.get_parameters() if id(p) not in own}
    write_weights(target, arrays, forms[1] in (TORCHVISION, HUGGING_FACE))
    lines = [f"{target}: {len(weights)} parameters of {config.model.name} with {forms[1]} names, from {source} with "
             f"{forms[0]} names"]
    geometries = [geometry_of(config.model, form) for form in forms]
    if geometries[0] != geometries[1]:
        lines.append(f"they belong to model.geometry {geometries[0]}, and under these names to {geometries[1]}, where "
                     "they compute something else")
    return lines


def _scheme(config: Config, weights: Mapping[str, Parameter], form: str, flag: str) -> Scheme:
    """The names of a form, which has one for each of ``weights``."""
    known = schemes(config.model)
    if form not in known:
        raise ValueError(f"{flag}={form}; must be one of {', '.join(known)} for {config.model.name}; choose one of "
                         "these")
    nameless = [ours for ours in weights if known[form].name(ours) is None]
    if nameless:
        raise ValueError(f"{flag}={form}; must be another form for this network; {nameless[0]} has no name there")
    return known[form]


def _refuse_others(config: Config, weights: Mapping[str, Parameter], form: str, found: Found,
                   contents: Mapping[str, np.ndarray], file: str) -> None:
    """ValueError where a file has not just ``weights``, or these in other shapes."""
    name, remedy = config.model.name, "give the --config and the settings of these weights"
    if found.missing:
        looks = likeliest(config.model, weights, contents)
        if looks not in (None, form):
            remedy = f"its names look like those of {looks}, give --from {looks}"
        raise ValueError(f"{file}; lacks {listed(list(found.missing.values()))} of {name}; {remedy}")
    if found.misshapen:
        raise ValueError(f"{file}; {listed(list(found.misshapen.values()))}; {remedy}")
    if found.left:
        raise ValueError(f"{file}; has {listed(found.left)}, which {name} has not; {remedy}")
