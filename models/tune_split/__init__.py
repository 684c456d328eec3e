"""Find the split dimension for a network, its data and a device. Importing this package does not import MindSpore."""
