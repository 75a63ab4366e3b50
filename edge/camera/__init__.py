"""Frames from files, devices, streams and child processes, through a bounded queue."""
