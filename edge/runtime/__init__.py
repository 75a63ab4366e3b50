"""Threads, queues, the order of stopping, and the process: systemd, stalls, memory, exit."""
