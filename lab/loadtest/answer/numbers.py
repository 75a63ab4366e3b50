"""How the answer shows its numbers: with three digits, so that what is read is within half a percent."""

import math


def digits(number: float, least: int = 0) -> str:
    """Three digits that count, and all before the point; below 1000 at least so many decimals."""
    if number == 0:
        return f"{0:.{least}f}"
    before = math.floor(math.log10(abs(float(f"{number:.3g}")))) + 1
    decimals = max(0, 3 - before)
    return f"{number:,.{max(decimals, least) if before <= 3 else 0}f}"


def percent(share: float) -> str:
    """A share in percent with one decimal."""
    return f"{share:.1%}"


def money(amount: float, currency: str) -> str:
    """An amount, below 1000 with two decimals or more, and its currency."""
    return f"{digits(amount, 2)} {currency}"
