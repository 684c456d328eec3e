"""The weights a new run begins with (train.init_from)."""
from __future__ import annotations

from pathlib import Path

from mindspore import Tensor, nn

from models.checkpoint_file import checkpoints
from models.config import Config
from models.ranks import Ranks
from models.run_folder import open_run_folder
from models.weights.files import read_weights
from models.weights.forms import geometry_of, likeliest, schemes, weights_of
from models.weights.matching import Found, find, listed
from models.weights.scheme import ZOO


def reads_weights(config: Config, ranks: Ranks) -> bool:
    """Whether a run is to read train.init_from: it is given, and there is no checkpoint that the run goes on from.

    Raises:
        ConfigError: as ``models.run_folder.open_run_folder``, on the first of ``ranks``.
    """
    if config.train.init_from is None:
        return False
    told = ""
    if ranks.is_first:  # the others may only look when it has made its folder
        run = open_run_folder(config, dry=True)
        place = run.start_from or run.checkpoints
        told = "goes on" if place.is_file() or checkpoints(place) else "begins"
        if run.lock is not None:
            run.lock.close()
    return ranks.agree(told) == "begins"


def begin_with_weights(config: Config, network: nn.Cell) -> list[str]:
    """Give ``network`` the weights in the file ``config.train.init_from``, whose names may be of any form.

    What the file lacks, and a head of another width, keep their initial values.

    Args:
        config: of the run.
        network: before its optimizer is made, which may copy weights.

    Returns:
        Lines that say what was taken and what was not.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, has no parameter of the network, or one of another shape outside of the head.
    """
    path = Path(str(config.train.init_from))
    file = f"train.init_from={path}"
    contents = read_weights(path, "train.init_from")
    weights = weights_of(config.model, network)
    form = likeliest(config.model, weights, contents)
    if form is None:
        raise ValueError(f"{file}; has no parameter of {config.model.name}; give a file with weights of such a network")
    found = find(weights, schemes(config.model)[form], contents, file)
    last = list(weights)[-1].rpartition(".")[0]  # the layer of the logits
    elsewhere = [text for ours, text in found.misshapen.items() if ours.rpartition(".")[0] != last]
    if elsewhere:
        raise ValueError(f"{file}; {listed(elsewhere)}; only the head may have another shape; give the model the "
                         "settings of these weights")
    for ours, value in found.values.items():
        weights[ours].set_data(Tensor(value))
    lines = [f"{len(found.values)} of {len(weights)} parameters begin as in {path}, which has {form} names",
             _rest(found)]
    geometry = geometry_of(config.model, form)
    if geometry != geometry_of(config.model, ZOO):
        lines.append(f"these weights belong to model.geometry {geometry}; with {config.model.geometry} the network "
                     "computes something else with them")
    return [line for line in lines if line]


def _rest(found: Found) -> str:
    """What does not come from the file, and what of the file is not used."""
    parts = [listed(list(found.misshapen.values()))] if found.misshapen else []
    parts += [f"it lacks {listed(list(found.missing.values()))}"] if found.missing else []
    parts += [f"it also has {listed(found.left)}, which the network has not"] if found.left else []
    return f"not taken from it: {'; '.join(parts)}" if parts else ""
