"""`spillover doctor` and `spillover edge --check`: everything that a daemon needs, looked at one by one."""
