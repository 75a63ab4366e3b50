"""`lab demo`: edge and cloud as two processes here, three modes over the same frames, one table."""
