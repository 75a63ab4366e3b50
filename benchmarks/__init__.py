"""What measures this project and no user needs; run as `python -m benchmarks`."""
