"""SOAP against its equations in float64; its bases against eigenvectors."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from tests.helpers import companion_cases as cases
from tests.helpers.companion_cases import DECAY, RATES, arrays, combine, gradient, start, zeros
from tests.helpers.modes import BOTH_MODES
from tests.helpers.soap_reference import FIRST_ITERATIONS, SoapMatrix
from thor.companions import SOAP
from thor.companions.soap import PowerIteration

BETA1, BETA2, EPSILON = 0.8, 0.9, 1e-8


def steps(frequency, split):
    """The matrix by SOAP, the bias by AdamW."""
    weights, means, squares = start(), zeros(start()), zeros(start())
    matrix = SoapMatrix((3, 4), frequency, split, BETA1, BETA2, EPSILON)
    for t, (rate, batch) in enumerate(zip(RATES, arrays()), 1):
        g = gradient(weights, batch)
        means = combine(lambda m, u: BETA1 * m + (1 - BETA1) * u, means, g)
        squares = combine(lambda v, u: BETA2 * v + (1 - BETA2) * u * u, squares, g)
        bias = means["fc.bias"] / (1 - BETA1 ** t) / (np.sqrt(squares["fc.bias"] / (1 - BETA2 ** t)) + EPSILON)
        weights = {"fc.weight": matrix.moved(weights["fc.weight"], g["fc.weight"], rate, DECAY),
                   "fc.bias": weights["fc.bias"] - rate * (bias + DECAY * weights["fc.bias"])}
        yield weights


@BOTH_MODES
@pytest.mark.parametrize("frequency, split", [(1, 8), (2, 2), (3, None)])
def test_five_steps_follow_the_equations(mode, frequency, split):
    ms.set_context(mode=mode)
    cases.assert_follows(lambda parameters: SOAP(parameters, RATES, BETA1, BETA2, frequency, DECAY, split, EPSILON),
                         steps(frequency, split or 8))


@pytest.mark.usefixtures("pynative")
def test_the_loss_scale_changes_nothing():
    cases.assert_follows(lambda parameters: SOAP(parameters, RATES, BETA1, BETA2, 2, DECAY, 2, EPSILON, 256.0),
                         steps(2, 2), 256.0)


def moved(shapes, gradients, **options):
    """Parameters of ones after steps with the gradients, and the optimizer."""
    parameters = [Parameter(Tensor(np.ones(shape), ms.float32), name=f"p{i}") for i, shape in enumerate(shapes)]
    optimizer = SOAP(parameters, RATES, BETA1, BETA2, **options)
    for step in gradients:
        optimizer(tuple(Tensor(gradient.astype(np.float32)) for gradient in step))
    return [parameter.asnumpy() for parameter in parameters], optimizer


@BOTH_MODES
def test_kernels_and_matrices_whose_last_blocks_are_padded(mode):
    """Blocks of five of 4 x 18, 7 x 6 and 6 x 4; the bases change at the first, third and fifth step.

    A first gradient has at least four directions in a block: of more than one missing, rounding would choose.
    """
    ms.set_context(mode=mode)
    random, shapes = np.random.default_rng(5), [(4, 2, 3, 3), (7, 6), (6, 4)]
    gradients = [[random.normal(size=shape) for shape in shapes] for _ in range(5)]
    got, optimizer = moved(shapes, gradients, frequency=2, weight_decay=DECAY, split_dim=5)
    for i, shape in enumerate(shapes):
        weight = np.ones((shape[0], int(np.prod(shape[1:]))))
        matrix = SoapMatrix(weight.shape, 2, 5, BETA1, BETA2, EPSILON)
        for rate, step in zip(RATES, gradients):
            weight = matrix.moved(weight, step[i].reshape(weight.shape), rate, DECAY)
        np.testing.assert_allclose(got[i].reshape(weight.shape), weight, rtol=5e-6, atol=1e-6, err_msg=str(shape))
    for bases, transposes in zip(optimizer.bases, optimizer.transposes):
        np.testing.assert_array_equal(transposes.asnumpy(), bases.asnumpy().transpose(0, 2, 1))


@pytest.mark.usefixtures("pynative")
def test_blocks_are_the_whole_where_gradients_have_no_others():
    """A gradient of two blocks, (3, 3) and (2, 3), and a column of zeros beside them, which does not move."""
    random = np.random.default_rng(6)
    mask = np.zeros((5, 7))
    mask[:3, :3] = mask[3:, 3:6] = 1
    gradients = [[mask * random.normal(size=(5, 7))] for _ in range(5)]
    found = [moved([(5, 7)], gradients, frequency=1, weight_decay=0.0, split_dim=split)[0][0] for split in (3, None)]
    np.testing.assert_allclose(found[0], found[1], rtol=5e-6, atol=1e-5)
    assert np.array_equal(found[0] == 1, mask == 0) and np.array_equal(found[1] == 1, mask == 0)


@pytest.mark.usefixtures("pynative")
def test_the_first_step_makes_eigenvectors_and_moves_no_matrix():
    random = np.random.default_rng(7)
    u, v = (np.linalg.qr(random.normal(size=(n, n)))[0] for n in (4, 6))
    gradient = u @ np.diag(0.6 ** np.arange(4.0)) @ v[:4]  # eigenvalues fall by 0.36 each
    (matrix, bias), optimizer = moved([(4, 6), (4,)], [[gradient, np.ones(4)]], split_dim=None)
    assert (matrix == 1).all() and (bias < 1).all()
    assert all((state.asnumpy() == 0).all() for state in (*optimizer.means, *optimizer.squares))
    found = {basis.shape[-1]: basis.asnumpy()[0] for basis in optimizer.bases}
    np.testing.assert_allclose(np.abs(found[4].T @ u), np.eye(4), atol=1e-5)
    np.testing.assert_allclose(np.abs(found[6].T @ v[:4].T), np.eye(6)[:, :4], atol=1e-5)
    np.testing.assert_allclose(found[6].T @ found[6], np.eye(6), atol=1e-6)


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("decades", [0, 10, 20], ids="{} decades".format)
def test_bases_stay_orthonormal(decades):
    """Of moments without an inverse: of few gradients, of rows that differ by decades, of zeros, of padded blocks."""
    random, size = np.random.default_rng(8), 40
    gradients = random.normal(size=(8, size, 10)) * 10 ** random.uniform(-decades / 2, decades / 2, (8, size, 1))
    gradients[-1], gradients[-2, 25:] = 0, 0
    blocks = Tensor((gradients @ gradients.transpose(0, 2, 1)).astype(np.float32))
    bases, iterate = Tensor(np.tile(np.eye(size), (8, 1, 1)), ms.float32), PowerIteration()
    for iterations in (FIRST_ITERATIONS, 1, 1):
        bases = iterate(blocks, bases, Tensor(iterations, ms.int32))
        found = bases.asnumpy().astype(np.float64)
        # forty reflections, each as good as float32
        np.testing.assert_allclose(found.transpose(0, 2, 1) @ found, np.tile(np.eye(size), (8, 1, 1)),
                                   atol=size * 2 ** -24)
        assert (found[-2, 25:, :25] == 0).all() and (found[-2, :25, 25:] == 0).all()
    np.testing.assert_array_equal(np.abs(found[-1]), np.eye(size))


def test_embeddings_and_vectors_are_adamws():
    net = nn.SequentialCell(nn.Embedding(5, 4), nn.Conv1d(4, 3, 2), nn.Dense(3, 2))
    optimizer = SOAP(net.trainable_params())
    assert [parameter.name for parameter in optimizer.matrices] == ["1.weight", "2.weight"]
    assert [parameter.name for parameter in optimizer.adam.weights] == ["0.embedding_table", "2.bias"]


@pytest.mark.parametrize("options, expected", [
    ({"beta1": 1}, "beta1=1; must be a number >= 0 and < 1; give a Python float in that range"),
    ({"frequency": 0}, "frequency=0; must be an int >= 1; use 1 to refresh every step"),
    ({"split_dim": 0}, "split_dim=0; must be an int >= 1 or None; use 128"),
    ({"eps": 0}, "eps=0; must be a number > 0; give a Python float in that range"),
])
def test_values_out_of_range_are_refused(options, expected):
    with pytest.raises(ValueError) as raised:
        SOAP([Parameter(Tensor(np.ones((2, 2)), ms.float32), name="w")], **options)
    assert str(raised.value) == expected
