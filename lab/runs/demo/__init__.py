"""Edge and cloud as two real processes on this machine: three modes over the same frames, one table."""
