"""The compiled kernels: all layers' products at once, one answer whatever the threads, and no kernels at all."""
from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from tests.helpers import ROOT, environment
from tests.helpers.modes import BOTH_MODES
from thor import THOR
from thor.backends import create_backend, kernels, native_cpu
from thor.backends.cpu import CpuBackend
from thor.backends.geometry import ConvGeometry
from thor.backends.native_cpu import NativeCpuBackend
from thor.backends.preconditioning import Inverse, Product
from thor.checks import ArgumentError
from thor.registration import tap_network

RNG = np.random.default_rng(3)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def dense(blocks, dim):
    """The matrix of ``dim`` rows that consecutive blocks stand for, float64."""
    size = blocks.shape[-1]
    whole = np.zeros((len(blocks) * size,) * 2)
    for i, block in enumerate(blocks):
        whole[i * size:(i + 1) * size, i * size:(i + 1) * size] = block
    return whole[:dim, :dim]


# (groups, rows, columns), whether a bias is folded, block sizes of G (0: none, -1: a diagonal) and A
LAYERS = [((1, 7, 5), False, 4, 5), ((1, 6, 9), True, 6, 4), ((3, 5, 8), False, 4, 4), ((2, 4, 4), True, 4, 5),
          ((6, 1, 1), True, 0, 2), ((1, 1, 1), False, 1, 1), ((1, 300, 9), False, -1, 5), ((2, 3, 4), False, -1, 4)]


def expected(gradients, matrix, folded, g, a, scales, rounded):
    """``G^-1 g A^-1`` by whole matrices, group by group, of operands that are ``rounded``."""
    groups, rows, columns = matrix
    joint = gradients[0].reshape(matrix).astype(np.float64)
    if folded:
        joint = np.concatenate((joint, gradients[1].reshape(groups, rows, 1)), axis=2)
    joint, a, g = rounded(joint), rounded(a), None if g is None else rounded(g)
    per_g, per_a = (0 if g is None else len(g) // groups), len(a) // groups
    products = []
    for group in range(groups):
        product = joint[group]
        if g is not None:
            product = rounded(dense(g[group * per_g:(group + 1) * per_g], rows) @ product)
        products.append(product @ dense(a[group * per_a:(group + 1) * per_a], columns + folded))
    joint = np.stack(products)
    if scales is not None:
        joint = joint * scales.astype(np.float64).reshape(groups, rows, 1)
    weight = joint[:, :, :columns].reshape(gradients[0].shape)
    return [weight, joint[:, :, columns].reshape(gradients[1].shape)] if folded else [weight]


def in_bfloat16(x):
    return Tensor(x.astype(np.float32)).astype(ms.bfloat16).astype(ms.float32).asnumpy().astype(np.float64)


@BOTH_MODES
@pytest.mark.parametrize("precision, rounded", [("float32", np.asarray), ("bfloat16", in_bfloat16)])
def test_all_layers_are_multiplied_at_once(mode, precision, rounded):
    ms.set_context(mode=mode)
    inverses = {size: normal(60, size, size) for size in (1, 2, 4, 5, 6)}
    parameters = {size: Parameter(Tensor(blocks), name=f"inverses_{size}") for size, blocks in inverses.items()}
    taken = dict.fromkeys(inverses, 1)

    def take(size, count):
        taken[size] += count
        return Inverse(parameters[size], taken[size] - count, count)

    products, gradients, wanted = [], [], []
    for matrix, folded, g_size, a_size in LAYERS:
        groups, rows, columns = matrix
        g = take(g_size, groups * -(-rows // g_size)) if g_size > 0 else None
        scales = Parameter(Tensor(normal(groups * rows)), name=f"scales_{rows}") if g_size < 0 else None
        a = take(a_size, groups * -(-(columns + folded) // a_size))
        own = [normal(groups * rows, columns), *([normal(groups * rows)] if folded else [])]
        products.append(Product(matrix, tuple(x.shape for x in own), a, g, scales))
        gradients += own
        wanted += expected(own, matrix, folded, None if g is None else g.asnumpy(), a.asnumpy(),
                           None if scales is None else scales.asnumpy(), rounded)
    got = NativeCpuBackend(precision).joint_product_operator(products)(tuple(map(Tensor, gradients)))
    assert len(got) == len(wanted)
    for result, value in zip(got, wanted):
        np.testing.assert_allclose(result.asnumpy(), value, rtol=2e-5, atol=2e-5)


def test_operators_that_differ_in_their_blocks_alone_are_not_taken_for_one(pynative):
    """MindSpore remembers shapes by an operator's name, attributes and inputs."""
    x, backend, statistics = normal(3, 8, 6, 6), NativeCpuBackend(), Tensor(np.ones(7, np.float32))
    for split_dim, kernel in ((8, 1), (4, 1), (3, 1), (8, 3), (5, 3)):
        operator = backend.covariance_of_patches_operator(ConvGeometry((kernel, kernel)), 1, split_dim)
        size = min(split_dim, 8 * kernel ** 2)
        assert operator(Tensor(x), statistics).shape == (-(-8 * kernel ** 2 // size), size, size)


def test_what_is_not_wanted_costs_nothing(pynative):
    """Not even a look: numbers that are not finite do not matter."""
    backend, bad = NativeCpuBackend(), Tensor(np.full((2, 3, 4, 4), np.nan, np.float32))
    statistics = Tensor(np.float32([1, 1, 1, 0, 1, 0, 0]))
    blocks = backend.covariance_of_patches_operator(ConvGeometry((3, 3)), 1, 128, column=3)(bad, statistics)
    np.testing.assert_array_equal(blocks.asnumpy(), np.zeros((1, 27, 27)))
    ones, old = Tensor(np.ones((4, 1, 1), np.float32)), normal(4, 5, 5)
    infinite = Tensor(np.full((4, 5, 5), np.inf, np.float32))
    result = backend.updated_inverse(infinite, ones, ones, ones, 0 * ones, Tensor(old))
    np.testing.assert_array_equal(result[0].asnumpy(), old)
    assert not result[1].asnumpy().any() and not result[2].asnumpy().any()


def measured():
    """Of all kernels that add up, on blocks that are cut into pieces."""
    rng, backend, statistics = np.random.default_rng(0), NativeCpuBackend(), Tensor(np.ones(7, np.float32))
    x = Tensor(rng.standard_normal((8, 4, 40, 30)).astype(np.float32))
    rows = Tensor(rng.standard_normal((9000, 12)).astype(np.float32))
    return [backend.covariance_of_patches_operator(ConvGeometry((3, 3), pad_mode="same"), 1, 18)(x, statistics),
            backend.covariance_operator(1, 12)(rows, statistics), backend.squares_operator()(x),
            backend.squares_operator(ConvGeometry((3, 3)))(x)]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_sums_do_not_depend_on_the_threads(pynative):
    together = [x.asnumpy() for x in measured()]
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        alone = [x.asnumpy() for x in measured()]
    finally:
        os.sched_setaffinity(0, cores)
    for got, wanted in zip(alone, together):
        np.testing.assert_array_equal(got, wanted)


def forked(queue):
    x = np.random.default_rng(1).standard_normal((40000, 12)).astype(np.float32)
    from tests.helpers.kernel_program import bound, call, covariance_plan

    out = np.zeros((2, 8, 8), np.float32)
    plan = covariance_plan(1, 8, False, [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    status = call(bound(kernels.library_path()), "Covariance", [x, np.ones(7, np.float32), plan], [out])
    queue.put((status, float(np.abs(out[0] - x[:, :8].T.astype(np.float64) @ x[:, :8] / len(x)).max())))


def test_a_forked_process_has_threads_of_its_own(pynative):
    [x.asnumpy() for x in measured()]  # the parent's threads are there
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=forked, args=(queue,))
    process.start()
    status, error = queue.get(timeout=60)
    process.join()
    assert status == 0 and error < 1e-5


def test_wrong_arguments_are_refused_by_the_kernel(pynative):
    operator = kernels.kernel("Squares", (1,), ms.float32)
    with pytest.raises(RuntimeError, match=r"function\(Squares\) is 3"):  # WRONG_DTYPE
        operator(Tensor(np.ones(3, np.float16))).asnumpy()


@pytest.mark.parametrize("found, text", [
    ("nothing", "the CPU kernels are not compiled (thor.backends._kernels); steps are slower without them; install a C "
                "compiler such as gcc, then this package again"),
    ("another version", "are of another version (2; must be 3); steps are slower without them; install this package "
                        "again")])
def test_without_kernels_numpy_serves_and_one_line_says_so(monkeypatch, caplog, found, text):
    kernels.library_path.cache_clear()
    if found == "nothing":
        monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: None)
    else:
        monkeypatch.setattr(kernels, "VERSION", 3)
    try:
        with caplog.at_level(logging.WARNING, logger="thor"):
            assert [type(create_backend("CPU")) for _ in range(2)] == [CpuBackend] * 2
    finally:
        kernels.library_path.cache_clear()
    assert len(caplog.messages) == 1 and text in caplog.messages[0]


def test_bfloat16_is_asked_of_what_has_it(monkeypatch, caplog):
    assert create_backend("CPU").precision == create_backend("CPU", "float32").precision == "float32"
    assert create_backend("CPU", "bfloat16").precision == "bfloat16"
    monkeypatch.setattr(native_cpu, "has_bfloat16", lambda: False)
    with caplog.at_level(logging.WARNING, logger="thor"):
        create_backend("CPU", "bfloat16")
    assert caplog.messages == ["precision=bfloat16: this processor has no AVX512-BF16; steps are slower than in "
                               "float32"]
    monkeypatch.setattr(kernels, "library_path", lambda: None)
    with pytest.raises(ArgumentError, match="^precision='bfloat16'; must be float32 or auto where the CPU kernels are "
                                            "not compiled; install a C compiler such as gcc, then this package again$"):
        create_backend("CPU", "bfloat16")
    with pytest.raises(ArgumentError, match="^precision='bfloat16'; must be float32 or auto on GPU; use auto$"):
        create_backend("GPU", "bfloat16")


def test_a_network_converted_before_gets_the_precision_asked_for_now(pynative):
    network = nn.Dense(3, 2)
    before = tap_network(network)
    assert THOR(network, 0.1, 0.1, 0.9).backend is before.backend
    assert THOR(network, 0.1, 0.1, 0.9, precision="bfloat16").backend.precision == "bfloat16"
    assert THOR(network, 0.1, 0.1, 0.9).backend.precision == "float32"


@pytest.mark.slow
def test_the_package_is_built_without_a_compiler(tmp_path):
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path / "lib"), "--build-temp",
               str(tmp_path / "temp")]
    done = subprocess.run(command, cwd=ROOT, env=environment(CC="/no/compiler"), capture_output=True, text=True)
    assert done.returncode == 0 and not [*tmp_path.rglob("*.so")]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    assert [path.name.split(".")[0] for path in tmp_path.rglob("*.so")] == ["_kernels"]


@pytest.mark.slow
def test_no_step_goes_beyond_memory_and_nothing_is_undefined(tmp_path):
    """Address and undefined-behaviour sanitizers, on shapes at the edges."""
    library = tmp_path / "kernels.so"
    sources = sorted(map(str, (ROOT / "thor/backends/native").glob("*.c")))
    subprocess.run(["gcc", "-std=c11", "-O1", "-g", "-shared", "-fPIC", "-pthread", "-fsanitize=address,undefined",
                    "-fno-sanitize-recover=all", *sources, "-o", str(library)], check=True)
    runtimes = [subprocess.run(["gcc", f"-print-file-name=lib{name}.so"], capture_output=True, text=True).stdout.strip()
                for name in ("asan", "ubsan")]
    done = subprocess.run([sys.executable, "-m", "tests.helpers.kernel_program", str(library)], capture_output=True,
                          text=True, env=environment(LD_PRELOAD=" ".join(runtimes), PYTHONMALLOC="malloc",
                                                     ASAN_OPTIONS="detect_leaks=0"))
    assert done.returncode == 0, done.stderr[-3000:]
