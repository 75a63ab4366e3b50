"""Reads the tensors of a PyTorch checkpoint without PyTorch, and without running what is in it."""

from spillover.lab.models.prepare.checkpoint.files import read_checkpoint

__all__ = ["read_checkpoint"]
