"""How much memory this process may have, by the machine and by the control groups that it is in."""

import os

from spillover.common.cgroups import memory_groups


def machine_bytes() -> int:
    """The memory of this machine, or of the control groups that this process is in, if that is less."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for group in memory_groups():
        try:
            text = (
                (group.folder / ("memory.max" if group.is_v2 else "memory.limit_in_bytes"))
                .read_text()
                .strip()
            )
        except OSError:
            continue
        if text.isdigit():  # not "max"
            limits.append(int(text))
    return min(limits)
