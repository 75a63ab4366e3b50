"""Ways to keep records on a disk, measured beside the arena of the spool."""
