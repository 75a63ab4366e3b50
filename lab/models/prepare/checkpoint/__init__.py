"""Reads the tensors of a PyTorch checkpoint without PyTorch, and without running code from it."""

from spillover.lab.models.prepare.checkpoint.files import read_checkpoint

__all__ = ["read_checkpoint"]
