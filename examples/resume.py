"""Stop and go on, bit for bit: the parameters of the train step are the whole state of training.

``python examples/resume.py``
"""
import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np
from four_lines import digits, network
from mindspore import nn

from thor import THOR
from thor.train import make_train_step


def create_step():
    """The network's train step as every process makes it."""
    ms.set_seed(1)
    net, loss = network(), nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    optimizer = THOR(net, learning_rate=0.02, damping=0.03, momentum=0.9, batch_size=50, frequency=10)
    return make_train_step(nn.WithLossCell(net, loss), optimizer)


def main() -> bool:
    """Whether 12 steps, saved and 13 more end where 25 steps end."""
    ms.set_seed(1)
    batches = [tuple(map(ms.Tensor, batch)) for batch in digits()[0].create_tuple_iterator(output_numpy=True)][:25]
    straight = create_step()
    for batch in batches:
        straight(*batch)

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "step-12.ckpt"))
        stopped = create_step()
        for batch in batches[:12]:
            stopped(*batch)
        ms.save_checkpoint(stopped, path)  # weights, momentum, factors, inverses, the step itself

        resumed = create_step()
        ms.load_param_into_net(resumed, ms.load_checkpoint(path))
        for batch in batches[12:]:
            resumed(*batch)

    end = {parameter.name: parameter.asnumpy() for parameter in straight.get_parameters()}
    same = all(np.array_equal(end[parameter.name], parameter.asnumpy()) for parameter in resumed.get_parameters())
    print(f"{len(end)} parameters, {'all' if same else 'not all'} bit-identical after stopping at step 12 of 25")
    return same


if __name__ == "__main__":
    main()
