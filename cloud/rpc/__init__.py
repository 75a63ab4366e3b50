"""gRPC's side of the server: servicers, call wrapper, status table, gate, health."""
