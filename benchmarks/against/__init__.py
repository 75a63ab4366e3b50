"""The cloud server of the working tree against that of an older commit: processor time a request."""
