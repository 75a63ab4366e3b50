"""What a month of results and waiting frames takes of a disk, beside the bounds that the defaults promise."""
