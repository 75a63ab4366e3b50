"""Simulated edges: what real ones decided and sent, replayed by thousands over real connections."""
