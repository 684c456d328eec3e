"""K-FAC and SP-NGD: settings of THOR, which has their curvature with other defaults."""
from __future__ import annotations

from mindspore import nn

from thor.curvature import FrobeniusPolicy
from thor.groups import Decay, Rate
from thor.optimizer import THOR


def kfac(net: nn.Cell, learning_rate: Rate, damping: Rate, momentum: float = 0.9, weight_decay: Decay = 0.0,
         loss_scale: float = 1.0, batch_size: int = 32, frequency: int = 10, *, running_average: float = 0.95,
         pi_correction: bool = True, split_dim: int | None = None, **options) -> THOR:
    r"""K-FAC (Martens & Grosse 2015, https://arxiv.org/abs/1503.05671; convolutions: Grosse & Martens 2016,
    https://arxiv.org/abs/1602.01573).

    .. math::
        A &\leftarrow \epsilon A + (1 - \epsilon) \overline{x x^T}, \quad
        G \leftarrow \epsilon G + (1 - \epsilon) \overline{d d^T}, \quad
        \pi = \sqrt{\frac{\mathrm{tr} A / \dim A}{\mathrm{tr} G / \dim G}} \\
        u &= (G + \sqrt\lambda / \pi I)^{-1} \, g \, (A + \pi \sqrt\lambda I)^{-1}

    :class:`thor.THOR` with whole factors, running averages and damping split by traces; what follows
    preconditioning is THOR's. Factors are those of the labels (empirical Fisher), measured when they are
    refreshed.

    Args:
        frequency: steps from one refresh to the next; 1 for every step. Default: 10.
        running_average: epsilon. Default: 0.95.
        options: the others of THOR; all arguments are explained there.
    """
    return THOR(net, learning_rate, damping, momentum, weight_decay, loss_scale, batch_size, frequency=frequency,
                running_average=running_average, pi_correction=pi_correction, split_dim=split_dim, **options)


def spngd(net: nn.Cell, learning_rate: Rate, damping: Rate, momentum: float = 0.9, weight_decay: Decay = 0.0,
          loss_scale: float = 1.0, batch_size: int = 32, frequency: int = 1, *, alpha: float = 0.1,
          batchnorm_blocks: bool = True, pi_correction: bool = True, split_dim: int | None = None, **options) -> THOR:
    r"""SP-NGD (Osawa et al. 2020, https://arxiv.org/abs/2002.06015).

    The update of :func:`kfac` with factors of the present batch, each of which stays in use for an interval of its
    own that grows while it stays what it was (stale factors, :class:`thor.curvature.FrobeniusPolicy`), and for
    BatchNorm a block per channel,

    .. math::
        F = \overline{\begin{pmatrix} g_\gamma \\ g_\beta \end{pmatrix}
        \begin{pmatrix} g_\gamma & g_\beta \end{pmatrix}}, \qquad
        \begin{pmatrix} u_\gamma \\ u_\beta \end{pmatrix} = (F + \lambda I)^{-1}
        \begin{pmatrix} g_\gamma \\ g_\beta \end{pmatrix}

    Args:
        frequency: steps from one look at the factors to the next. Default: 1.
        alpha: relative distance under which two factors are alike, > 0. Default: 0.1.
        options: the others of THOR; all arguments are explained there.
    """
    return THOR(net, learning_rate, damping, momentum, weight_decay, loss_scale, batch_size, frequency=frequency,
                batchnorm_blocks=batchnorm_blocks, pi_correction=pi_correction, split_dim=split_dim,
                update=FrobeniusPolicy(frequency, alpha), **options)
