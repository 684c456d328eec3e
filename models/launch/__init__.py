"""Starting one training process for each device. Importing this package does not import MindSpore."""
