"""How the device itself is: temperature, throttling, processor, memory, disks; what is not there is None."""
