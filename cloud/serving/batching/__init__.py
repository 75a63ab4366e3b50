"""Bring waiting requests of one model together, run them as one batch, give each its own rows back."""

from spillover.cloud.serving.batching.batcher import Batcher
from spillover.cloud.serving.batching.queue import Batched, Work

__all__ = ["Batched", "Batcher", "Work"]
