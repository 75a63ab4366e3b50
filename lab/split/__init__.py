"""Split a network where it pays: find cuts, measure them, choose how features are coded, keep the best."""
