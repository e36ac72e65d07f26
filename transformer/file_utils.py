"""Names of the files in a model folder, and `cached_path`: the published names of this module."""

from files.download import cached_path

__all__ = ["CONFIG_NAME", "SAFE_WEIGHTS_NAME", "VOCAB_NAME", "WEIGHTS_NAME", "cached_path"]

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "pytorch_model.bin"
SAFE_WEIGHTS_NAME = "model.safetensors"
VOCAB_NAME = "vocab.txt"
