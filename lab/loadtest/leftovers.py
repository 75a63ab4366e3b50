"""Removes what a test has left on the machine whose process was killed before it could."""

from spillover.lab.loadtest.slow import clear_groups
from spillover.lab.shaper.kernel import clear_links


def clear_leftovers() -> None:
    """Remove namespaces, their devices and control groups of tests whose process is gone; others stay."""
    clear_links()
    clear_groups()
