"""How good a pair of models is over the share of frames that are sent, under each policy."""
