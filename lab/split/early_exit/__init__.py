"""`lab early-exit`: the edge answers from the features that it may send anyway."""
