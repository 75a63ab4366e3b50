<<<<<<< HEAD
"""What policies are worth, on real pairs of models and simulated links."""
=======
"""`make bench-policy`: figures to choose a policy by, from real pairs and simulated links."""
>>>>>>> 4025dec (Name the benchmarks' files after what they measure, and let them start daemons and judge pictures as the workbench does)
