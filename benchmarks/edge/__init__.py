"""The edge pipeline beside a bare loop of the same model."""
