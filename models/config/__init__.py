"""One typed configuration for the whole zoo. Importing it does not import MindSpore.

    config = load_config("configs/resnet/resnet18_digits.yaml", ["--optimizer.frequency", "50"])

Files are YAML, may extend one another, and hold the sections of Config; every section checks itself.
"""
from models.config.bert import BertConfig
from models.config.curvature import CurvatureConfig, UpdateConfig
from models.config.errors import ConfigError, UsageError
from models.config.gpt import GptConfig
from models.config.load import changed, config_tree, dump_config, load_config
from models.config.optimization import DampingConfig, LearningRateConfig, LossScaleConfig, OptimizerConfig
from models.config.run import TEXT, DataConfig, DeviceConfig, LossConfig, ModelConfig, ParallelConfig, TrainConfig
from models.config.schema import Config
from models.config.transformer import TransformerConfig

__all__ = ["BertConfig", "Config", "ConfigError", "CurvatureConfig", "DampingConfig", "DataConfig",
           "DeviceConfig", "GptConfig", "LearningRateConfig", "LossConfig", "LossScaleConfig", "ModelConfig",
           "OptimizerConfig", "ParallelConfig", "TEXT", "TrainConfig", "TransformerConfig", "UpdateConfig",
           "UsageError", "changed", "config_tree", "dump_config", "load_config"]
