"""Optimizers to compare THOR with; those MindSpore has (Momentum, Adam, AdamWeightDecay, ...) are used from there.

All are ``nn.Optimizer`` and train through :func:`thor.train.make_train_step` in graph and PyNative mode.
"""
from thor.companions.dcasgd import DCASGD
from thor.companions.delays import draw_delays
from thor.companions.heun import Heun
from thor.companions.lookahead import Lookahead, evaluation_weights
from thor.companions.muon import Muon
from thor.companions.radam import RAdam, ranger
from thor.companions.second_order import kfac, spngd
from thor.companions.shampoo import Shampoo
from thor.companions.soap import SOAP

__all__ = ["DCASGD", "Heun", "Lookahead", "Muon", "RAdam", "SOAP", "Shampoo", "draw_delays", "evaluation_weights",
           "kfac", "ranger", "spngd"]
