"""Taps that measure Kronecker factors inside ordinary MindSpore layers."""
from thor.layers.base import Measure, NotTapped, Tap, TapOptions, TappedLayer, create_factors, install
from thor.layers.conv import tap_conv2d
from thor.layers.dense import tap_dense
from thor.layers.embedding import tap_embedding
from thor.layers.norm import tap_batch_norm, tap_layer_norm
from thor.layers.registry import find_factory, register_layer, weight_of

__all__ = ["Measure", "NotTapped", "Tap", "TapOptions", "TappedLayer", "create_factors", "find_factory", "install",
           "register_layer", "tap_batch_norm", "tap_conv2d", "tap_dense", "tap_embedding", "tap_layer_norm",
           "weight_of"]
