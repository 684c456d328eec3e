"""Optimizers to compare THOR with; those MindSpore has (Momentum, Adam, AdamWeightDecay, ...) are used from there.

All are ``nn.Optimizer`` and train through :func:`thor.train.make_train_step` in graph and PyNative mode.
"""
from thor.optimizers.dcasgd import DCASGD
from thor.optimizers.delays import draw_delays
from thor.optimizers.heun import Heun
from thor.optimizers.lookahead import Lookahead, evaluation_weights
from thor.optimizers.radam import RAdam, ranger
from thor.optimizers.second_order import kfac, spngd

__all__ = ["DCASGD", "Heun", "Lookahead", "RAdam", "draw_delays", "evaluation_weights", "kfac", "ranger", "spngd"]
