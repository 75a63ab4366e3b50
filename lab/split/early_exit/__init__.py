"""An early exit on a network's own backbone: the edge answers from the features that it would send anyway."""
