"""Threads, queues, how parts stop, and what concerns the process: systemd, stalls, memory, exit."""
