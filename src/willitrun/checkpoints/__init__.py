"""Describe a model from a name, a config, or the header of a checkpoint file; tensors are never loaded."""

from willitrun.checkpoints.descriptions import describe_model

__all__ = ["describe_model"]
