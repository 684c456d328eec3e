r"""Damping: the one place that says what is added to which curvature.

lam damps a layer's Fisher block, :math:`F + \lambda I`. Where the block is a product ``(HW A) x G`` it is split between
the factors (factored Tikhonov damping, Martens & Grosse 2015, section 6.3; convolutions: Grosse & Martens 2016):

| curvature | what is added |
|---|---|
| A of blocks | pi sqrt(lam / HW) |
| G of blocks | sqrt(lam / HW) / pi |
| 2x2 blocks of a unit | lam |
| a diagonal (ids of an Embedding, squared gradients of a LayerNorm) | sqrt(lam) |
| trace of a Fisher block, for the trace rule | lam times its rows |

pi is 1 as THOR was published; with ``pi_correction`` it is the root of the ratio of the factors' mean diagonals.

With ``relative_damping`` lam is a share: what is added to any of them is lam times its mean diagonal, the mean of its
eigenvalues (as the ridge of Anil et al. 2020, https://arxiv.org/abs/2002.09018, is a share of the largest). It knows no
scale: neither of the data, the loss, the batch nor the gradients, which shrink as training goes on.
"""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops


class FactorDamping(nn.Cell):
    """What is added to the diagonal of every factor.

    Args:
        roles: of each factor: a, g or unit.
        of_layer: the layer of each factor.
        pi_correction: split by the factors' mean diagonals instead of evenly.
        relative: add shares of the mean diagonals.
    """

    def __init__(self, roles: list[str], of_layer: list[int], pi_correction: bool, relative: bool = False):
        super().__init__(auto_prefix=False)
        self.pi_correction, self.relative = pi_correction, relative
        self.reads_diagonals = pi_correction or relative
        self.of_layer = Tensor(of_layer, ms.int32)  # (n_factors,)
        self.is_unit = Tensor([role == "unit" for role in roles])
        partner = np.arange(len(roles))
        for i, role in enumerate(roles):
            others = [k for k, other in enumerate(roles) if of_layer[k] == of_layer[i] and {role, other} == {"a", "g"}]
            partner[i] = others[0] if others else i
        self.partner, self.paired = Tensor(partner, ms.int32), Tensor(partner != np.arange(len(roles)))
        self.gather = ops.Gather()

    def construct(self, damping, positions, mean_diagonals):
        """``(n_factors,)``.

        Args:
            damping: lam, ``()``.
            positions: HW of each layer, ``(n_layers,)``.
            mean_diagonals: of each factor, ``(n_factors,)``; read where ``reads_diagonals``.
        """
        added = self.gather(ops.sqrt(damping / positions), self.of_layer, 0)
        if self.relative:
            return share_or(mean_diagonals, damping, added)
        if self.pi_correction:
            added = added * self.pi(mean_diagonals)
        return ops.select(self.is_unit, damping * ops.ones_like(added), added)

    def pi(self, mean_diagonals):
        """sqrt(mean diagonal of A / of G) for A, its inverse for G; 1 where that is not a positive number."""
        other = self.gather(mean_diagonals, self.partner, 0)
        usable = ops.logical_and(self.paired, ops.logical_and(mean_diagonals > 0, other > 0))
        ratio = mean_diagonals / ops.select(usable, other, ops.ones_like(other))
        return ops.select(usable, ops.sqrt(ratio), ops.ones_like(ratio))


def share_or(mean_diagonal, damping, absolute):
    """lam times a mean diagonal; ``absolute`` where that is not a positive number, as of a gradient that is zero."""
    share = damping * mean_diagonal
    return ops.select(ops.logical_and(share > 0, ops.isfinite(share)), share, absolute)


def damped_diagonal(diagonal, damping, relative: bool = False):
    """A diagonal factor of any shape with its damping; ``damping`` is lam, ``()``."""
    added = ops.sqrt(damping)
    return diagonal + (share_or(diagonal.mean(), damping, added) if relative else added)


def trace_of_damping(damping, fisher_rows, relative: bool = False):
    """tr(lam I) over the rows of each layer's Fisher block, ``(n_layers,)``: the ridge of the trace rule.

    What is relative grows with the trace itself, and is left out of its change.
    """
    return ops.zeros_like(fisher_rows) if relative else damping * fisher_rows
