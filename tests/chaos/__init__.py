"""Real processes, real sockets, faults on command; afterwards the books must balance."""
