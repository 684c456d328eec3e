"""Weights by name: those of this zoo, of MindSpore's own programs, of torchvision and of Hugging Face."""
