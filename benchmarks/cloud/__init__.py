"""The cloud server against Triton and MLServer: the same networks, the same client, one interleaved run."""
