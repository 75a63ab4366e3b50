"""From request to reply, whatever the transport: admission, registry, batching, reply cache."""
