"""`lab overlay`: the results of a run, drawn into its frames."""
