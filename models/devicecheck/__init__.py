"""Compile what a configuration trains for a GPU or an Ascend device, on a machine that has neither."""
