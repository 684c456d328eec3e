"""Layer kinds: how each type of layer is measured and preconditioned, one file each."""
from thor.layers.base import Factor, Inverse, Layer, LayerContext, NotTapped, kind_of, register_layer
from thor.layers.batch_norm import BatchNormLayer
from thor.layers.conv import ConvLayer
from thor.layers.dense import DenseLayer
from thor.layers.embedding import EmbeddingLayer
from thor.layers.kronecker import KroneckerLayer
from thor.layers.layer_norm import LayerNormLayer
from thor.layers.tap import Measure, Tap

__all__ = ["BatchNormLayer", "ConvLayer", "DenseLayer", "EmbeddingLayer", "Factor", "Inverse", "KroneckerLayer",
           "Layer", "LayerContext", "LayerNormLayer", "Measure", "NotTapped", "Tap", "kind_of", "register_layer"]
