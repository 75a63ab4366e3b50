"""`lab check`: proves from the JSON lines of a run that every frame ended exactly once."""
