"""Threads, queues and the process: what every stage stands on."""
