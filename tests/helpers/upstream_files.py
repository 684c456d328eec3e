"""Flat files in the layout of MindSpore's own ResNet and BERT programs: values, help, choices."""
from __future__ import annotations

import yaml

HELP = {"enable_modelarts": "Whether to train on ModelArts", "batch_size": "Samples of a step: each device", "lr_init":
        "first rate"}
CHOICES = {"device_target": ["Ascend", "GPU"], "distribute": ["true", "false"]}

RESNET50 = {
    "enable_modelarts": False, "data_url": "", "run_distribute": True, "data_path": "", "output_dir": "../outputs",
    "device_target": "Ascend", "checkpoint_path": "./checkpoint/", "optimizer": "Thor", "infer_label": "",
    "class_num": 1001, "batch_size": 32, "loss_scale": 128, "momentum": 0.9, "weight_decay": 5.0e-4, "epoch_size": 45,
    "start_epoch": 0, "resume_ckpt": "", "save_checkpoint": True, "save_checkpoint_epochs": 2,
    "keep_checkpoint_max": 15, "use_label_smooth": True, "label_smooth_factor": 0.1, "lr_init": 0.05803,
    "lr_decay": 4.0839, "lr_end_epoch": 53, "damping_init": 0.03, "damping_decay": 0.50036, "frequency": 834,
    "net_name": "resnet50", "dataset": "imagenet2012", "device_num": 8, "pre_trained": "", "run_eval": False,
    "eval_dataset_path": "", "parameter_server": False, "save_best_ckpt": True, "eval_interval": 1,
    "mode_name": "GRAPH", "conv_init": "HeUniform", "all_reduce_fusion_config": [80, 160], "train_image_size": 224,
    "eval_image_size": 224, "device_id": 0, "file_format": "MINDIR",
}
RESNET50_GPU = {**RESNET50, "device_target": "GPU", "epoch_size": 40, "lr_init": 0.05672, "lr_decay": 4.9687,
                "lr_end_epoch": 50, "damping_init": 0.02345, "damping_decay": 0.5467, "save_checkpoint_epochs": 1,
                "all_reduce_fusion_config": [75, 155]}
MOMENTUM = {**{key: value for key, value in RESNET50.items() if key not in (
    "lr_decay", "lr_end_epoch", "damping_init", "damping_decay", "frequency")}, "optimizer": "Momentum", "loss_scale":
    1024, "weight_decay": 1.0e-4, "epoch_size": 90, "warmup_epochs": 2, "lr_decay_mode": "linear", "lr_init": 0,
    "lr_max": 0.8, "lr_end": 0.01, "lars_epsilon": 0.0, "lars_coefficient": 0.001}


def sizes(vocabulary, hidden, layers, heads, inner, activation="gelu", relative=False, length=128):
    return {"seq_length": length, "vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers,
            "num_attention_heads": heads, "intermediate_size": inner, "hidden_act": activation,
            "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512,
            "type_vocab_size": 2, "initializer_range": 0.02, "use_relative_positions": relative,
            "dtype": "mstype.float32", "compute_type": "mstype.float16"}


BERT = {
    "enable_modelarts": False, "output_path": "/cache/train", "device_target": "Ascend", "description": "run_pretrain",
    "distribute": "true", "epoch_size": 40, "device_id": 0, "device_num": 8, "enable_save_ckpt": "true",
    "enable_lossscale": "false", "do_shuffle": "true", "enable_data_sink": "true", "data_sink_steps": 1000,
    "accumulation_steps": 1, "save_checkpoint_steps": 500, "train_steps": 3000, "save_checkpoint_num": 5,
    "load_checkpoint_path": "", "data_dir": "", "schema_dir": "", "num_samples": "None", "batch_size": 20,
    "bert_network": "large", "loss_scale_value": 65536, "scale_factor": 2, "scale_window": 1000, "optimizer": "Thor",
    "Lamb": {"learning_rate": 3.0e-4, "end_learning_rate": 0.0, "power": 2.0, "warmup_steps": 10000,
             "weight_decay": 0.01, "decay_filter": ["layernorm", "bias"], "eps": 1.0e-8, "beta1": 0.99, "beta2": 0.999},
    "Thor": {"lr_max": 0.006464, "lr_min": 1.0e-6, "lr_power": 2.0, "lr_total_steps": 30000, "damping_max": 0.007035,
             "damping_min": 1.0e-6, "damping_power": 4.0, "damping_total_steps": 30000, "momentum": 0.9,
             "weight_decay": 0.0, "loss_scale": 1024.0, "frequency": 100},
    "base_batch_size": 64, "base_net_cfg": sizes(21128, 768, 12, 12, 3072),
    "nezha_batch_size": 96, "nezha_net_cfg": sizes(21128, 1024, 24, 16, 4096, relative=True),
    "large_batch_size": 12, "large_net_cfg": sizes(30522, 1024, 24, 16, 4096, "fast_gelu", length=512),
}


def write(folder, values, name="flat.yaml", documents=(HELP, CHOICES), **changes):
    """The file of ``values`` and ``changes``; a change to None leaves the key out."""
    kept = {key: value for key, value in {**values, **changes}.items() if value is not None}
    path = folder / name
    path.write_text("---\n".join(yaml.safe_dump(document, sort_keys=False) for document in (kept, *documents)))
    return path
