"""`make path`: the files of edge/ that an offloaded frame runs through, traced in a running daemon."""
