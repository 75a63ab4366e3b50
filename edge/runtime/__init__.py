"""Threads, queues, stall detection, systemd, memory."""
