"""Ways to keep records on a disk, measured beside the spool's own."""
