"""THOR in four lines: a small convolutional network on scikit-learn's handwritten digits.

``python examples/four_lines.py``
"""
import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import Model, nn
from mindspore.train import Accuracy
from sklearn.datasets import load_digits

from thor import THOR, ConvertModelUtils


def digits(batch_size=50):
    """1500 digits to train on and 297 to test on, images ``(1, 8, 8)``."""
    bunch = load_digits()
    images, labels = bunch.images[:, None].astype(np.float32) / 16, bunch.target.astype(np.int32)
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[:1500], order[1500:]
    return (ds.NumpySlicesDataset((images[train], labels[train]), shuffle=True).batch(batch_size),
            ds.NumpySlicesDataset((images[test], labels[test]), shuffle=False).batch(27))


def network():
    """A convolution and two Dense layers."""
    return nn.SequentialCell(nn.Conv2d(1, 16, 3, has_bias=True), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Flatten(),
                             nn.Dense(256, 64, activation="relu"), nn.Dense(64, 10))


def main(epochs=3) -> float:
    """Accuracy on the digits held out."""
    ms.set_seed(1)
    net, loss = network(), nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    train, test = digits()

    optimizer = THOR(net, learning_rate=0.02, damping=0.03, momentum=0.9, batch_size=50, frequency=10)
    model = ConvertModelUtils.convert_to_thor_model(Model(net, loss, optimizer), network=net, loss_fn=loss,
                                                    optimizer=optimizer, metrics={"accuracy": Accuracy()})
    model.train(epochs, train, dataset_sink_mode=False)

    accuracy = model.eval(test, dataset_sink_mode=False)["accuracy"]
    print(f"{accuracy:.1%} of the digits held out are right after {epochs} epochs")
    return accuracy


if __name__ == "__main__":
    main()
