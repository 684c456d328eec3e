"""THOR's update as MindSpore published it for Ascend, in float64 NumPy, with the two small networks it is applied to.

The formulas are those of ``mindspore.nn.thor``'s Ascend branch without its float16 casts. With bs the batch size told
to the optimizer, s the loss scale, N the rows a layer sees (images of a convolution) and HW its output positions:

| layer | A | G | damping | update |
|---|---|---|---|---|
| Dense | x'x / N | d'd / N bs^2 / s^2 | sqrt(lam) | G^-1 g A^-1 |
| Conv2d | P'P / (N HW) | d'd / (N HW) bs^2 / s^2 | sqrt(lam bs / (N HW)) | bs / (N HW) G^-1 g A^-1 |
| Embedding | counts of ids / bs | d'd / N bs^2 / s^2 | sqrt(lam) | (1 / A) g G^-1 |
| LayerNorm | | g^2 / bs, in every step | sqrt(lam) | g / (g^2 / bs + sqrt(lam)) |
| all else | | | | g |

Inverses are those of diagonal blocks of 128 rows. Gradients are divided by s; the update gets weight decay and goes
through momentum.
"""
from __future__ import annotations

import numpy as np

from tests.helpers import reference as ref


class Ascend:
    """The optimizer: ``step`` moves ``weights`` by what the layers of a network told.

    Args:
        weights: by name; replaced at every step.
        options: rate, damping, momentum, decay, scale (s), batch_size (bs), frequency.
    """

    def __init__(self, weights, **options):
        self.weights, self.options = weights, options
        self.moments = {name: np.zeros_like(weight) for name, weight in weights.items()}
        self.factors, self.count = {}, 0

    def step(self, gradients, told):
        """One step; returns the update of each weight before decay and momentum.

        Args:
            gradients: of s times the loss, by weight.
            told: by weight, ``(kind, *what its layer saw)``; a weight that is not in it is first-order.
        """
        options = self.options
        if self.count % options["frequency"] == 0:
            self.factors = {name: self.measured(*seen) for name, seen in told.items()}
        updates = {}
        for name, gradient in gradients.items():
            g = gradient / options["scale"]
            updates[name] = self.preconditioned(name, g, told[name][0]) if name in told else g
            weight = self.weights[name]
            self.weights[name], self.moments[name] = ref.momentum_update(
                weight, self.moments[name], updates[name] + options["decay"] * weight, options["rate"],
                options["momentum"])
        self.count += 1
        return updates

    def measured(self, kind, *seen):
        """The damped inverses of a layer and what its update is multiplied with."""
        lam, bs, s = self.options["damping"], self.options["batch_size"], self.options["scale"]
        if kind == "layer_norm":
            return None
        if kind == "dense":
            x, d = seen
            n = len(x)
            return inverse(x.T @ x / n, lam ** 0.5), inverse(d.T @ d / n * bs ** 2 / s ** 2, lam ** 0.5), 1.0
        if kind == "embedding":
            ids, d, vocabulary = seen
            counts = np.bincount(ids.reshape(-1), minlength=vocabulary) / bs
            return counts + lam ** 0.5, inverse(d.T @ d / len(d) * bs ** 2 / s ** 2, lam ** 0.5), 1.0
        patches, d = seen  # (n, HW, columns), (n, HW, rows)
        n, positions = d.shape[:2]
        share, rows = bs / (n * positions), n * positions
        patches, d = patches.reshape(rows, -1), d.reshape(rows, -1)
        a, g = patches.T @ patches / rows, d.T @ d / rows * bs ** 2 / s ** 2
        return inverse(a, (lam * share) ** 0.5), inverse(g, (lam * share) ** 0.5), share

    def preconditioned(self, name, g, kind):
        if kind == "layer_norm":
            return g / (g ** 2 / self.options["batch_size"] + self.options["damping"] ** 0.5)
        a, inverse_g, factor = self.factors[name]
        if kind == "embedding":
            return (1.0 / a)[:, None] * g @ inverse_g
        return (factor * inverse_g @ g.reshape(len(g), -1) @ a).reshape(g.shape)


def inverse(matrix, damping):
    """Of the diagonal blocks of 128 rows of ``matrix + damping I``; zero elsewhere."""
    result = np.zeros_like(matrix)
    for first in range(0, len(matrix), 128):
        block = slice(first, first + 128)
        damped = matrix[block, block] + damping * np.eye(len(matrix[block]))
        result[block, block] = np.linalg.inv(damped)
    return result


def cross_entropy(logits, labels, scale):
    """The mean loss of ``(n, classes)``, and the gradient of ``scale`` times it."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    likelihood = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    loss = -np.log(likelihood[np.arange(len(labels)), labels]).mean()
    return loss, scale * (likelihood - np.eye(logits.shape[1])[labels]) / len(labels)


class Patches:
    """A convolution without bias, SAME padding and a 3x3 kernel."""

    def __init__(self, images, weight, stride):
        self.images, self.weight, self.stride = images, weight, stride
        self.padding = ref.same_padding(images.shape[2:], (3, 3), (stride, stride), (1, 1))
        columns = ref.im2col(images, (3, 3), (stride, stride), self.padding, (1, 1))
        self.size = columns.shape[1:3]
        self.patches = columns.reshape(len(images), self.size[0] * self.size[1], -1)

    def forward(self):
        """``(n, rows, height, width)``."""
        rows = self.patches @ self.weight.reshape(len(self.weight), -1).T
        return rows.transpose(0, 2, 1).reshape(len(rows), -1, *self.size)

    def backward(self, d):
        """What the layer tells, the gradient of its weight, and that of its images."""
        d = d.reshape(*d.shape[:2], -1).transpose(0, 2, 1)  # (n, HW, rows)
        of_weight = np.einsum("npr,npc->rc", d, self.patches).reshape(self.weight.shape)
        columns = (d @ self.weight.reshape(len(self.weight), -1)).reshape(len(d), *self.size, -1, 3, 3)
        top, bottom, left, right = self.padding
        padded = np.zeros_like(np.pad(self.images, ((0, 0), (0, 0), (top, bottom), (left, right))))
        for i in range(self.size[0]):
            for j in range(self.size[1]):
                padded[:, :, i * self.stride:i * self.stride + 3, j * self.stride:j * self.stride + 3] += \
                    columns[:, i, j]
        height, width = self.images.shape[2:]
        return ("conv", self.patches, d), of_weight, padded[:, :, top:top + height, left:left + width]


def normalised(x, axes, epsilon):
    """``(x - mean) / std`` over ``axes`` and ``1 / std``."""
    centred = x - x.mean(axis=axes, keepdims=True)
    rate = 1.0 / np.sqrt((centred ** 2).mean(axis=axes, keepdims=True) + epsilon)
    return centred * rate, rate


def through_normalised(d, unit, rate, axes):
    """The gradient before normalisation, from that after it."""
    return rate * (d - d.mean(axis=axes, keepdims=True) - unit * (d * unit).mean(axis=axes, keepdims=True))


def image_gradients(weights, images, labels, scale):
    """``(loss, gradients, told)`` of convolution, BatchNorm, ReLU, convolution of stride 2, ReLU, Dense."""
    axes, per_channel = (0, 2, 3), (1, -1, 1, 1)
    first = Patches(images, weights["first.weight"], 1)
    unit, rate = normalised(first.forward(), axes, 1e-5)
    gamma, beta = (weights[f"norm.{name}"].reshape(per_channel) for name in ("gamma", "beta"))
    hidden = gamma * unit + beta
    second = Patches(np.maximum(hidden, 0), weights["second.weight"], 2)
    maps = second.forward()
    x = np.maximum(maps, 0).reshape(len(images), -1)
    loss, d = cross_entropy(x @ weights["head.weight"].T + weights["head.bias"], labels, scale)
    gradients, told = {"head.weight": d.T @ x, "head.bias": d.sum(axis=0)}, {"head.weight": ("dense", x, d)}
    d = (d @ weights["head.weight"]).reshape(maps.shape) * (maps > 0)
    told["second.weight"], gradients["second.weight"], d = second.backward(d)
    d = d * (hidden > 0)
    gradients["norm.gamma"], gradients["norm.beta"] = (d * unit).sum(axis=axes), d.sum(axis=axes)
    told["first.weight"], gradients["first.weight"], _ = first.backward(through_normalised(gamma * d, unit, rate, axes))
    return loss, gradients, told


def word_gradients(weights, ids, labels, scale):
    """``(loss, gradients, told)`` of Embedding, LayerNorm and Dense; ``ids`` (n, words), a label for each word."""
    looked_up = weights["words.embedding_table"][ids].reshape(ids.size, -1)
    unit, rate = normalised(looked_up, -1, 1e-5)
    x = weights["norm.gamma"] * unit + weights["norm.beta"]
    loss, d = cross_entropy(x @ weights["head.weight"].T + weights["head.bias"], labels.reshape(-1), scale)
    gradients, told = {"head.weight": d.T @ x, "head.bias": d.sum(axis=0)}, {"head.weight": ("dense", x, d)}
    d = d @ weights["head.weight"]
    gradients["norm.gamma"], gradients["norm.beta"] = (d * unit).sum(axis=0), d.sum(axis=0)
    told["norm.gamma"] = told["norm.beta"] = ("layer_norm",)
    d = through_normalised(weights["norm.gamma"] * d, unit, rate, -1)
    table = np.zeros_like(weights["words.embedding_table"])
    np.add.at(table, ids.reshape(-1), d)
    gradients["words.embedding_table"] = table
    told["words.embedding_table"] = ("embedding", ids, d, len(table))
    return loss, gradients, told
