"""Simulated edges: thousands that replay the decisions and payloads of real ones over real connections."""
