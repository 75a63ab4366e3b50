"""Durations, sizes and causes as words, for people."""

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def duration(seconds: float) -> str:
    """Rounded to its largest unit: `12 s`, `3.5 min`, `2 d`."""
    for length_s, unit in _UNITS:
        if seconds >= length_s:
            return f"{seconds / length_s:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.0f} s"


def size(size_bytes: float) -> str:
    """As kB, MB or GB."""
    for length, unit in ((1e9, "GB"), (1e6, "MB")):
        if size_bytes >= length:
            return f"{size_bytes / length:.1f} {unit}"
    return f"{size_bytes / 1e3:.1f} kB"


def held_back(causes: tuple[str, ...]) -> str:
    """Names of causes as words."""
    return ", ".join(cause.replace("_", " ") for cause in causes)
