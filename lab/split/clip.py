"""The limits to clip features at, in closed form, from the distribution that fits them.

For a Laplace distribution of scale b, clipped at +-a around its centre and rounded to N levels from end to
end (a step of 2a/(N-1)), the mean squared error is

    2 b^2 exp(-a/b)  +  a^2 / (3 (N-1)^2)          (clipping + rounding)

and its minimum lies where (a/b) exp(a/b) = 3 (N-1)^2, so a = b W(3 (N-1)^2) with Lambert's W. That is the
analysis of R. Banner, Y. Nahshan and D. Soudry, "Post training 4-bit quantization" (NeurIPS 2019), section 3,
with levels on the ends. Features behind a ReLU have one side: the step is a/(N-1) and 3 becomes 12. R. A.
Cohen, H. Choi and I. V. Bajic (ICME 2020) fit features of split networks in the same way.

The error of features is not the error of answers, so `lab.split.coding` only begins its search at these
clips.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import lambertw

from spillover.common.types import FloatArray


@dataclass(frozen=True, slots=True)
class Distribution:
    """A fitted distribution: `centre` and Laplace `scale` of the values, and their extremes.

    `one_sided`: hardly any value lies below the centre, which is then the lower end.
    """

    centre: float
    scale: float
    lowest: float
    highest: float
    one_sided: bool


def fit_distribution(values: FloatArray) -> Distribution:
    """Fit a Laplace distribution by its maximum likelihood: median, and mean distance from it.

    Values whose median is within a tenth of their reach from the bottom (behind ReLU, SiLU, ...) are taken as
    one-sided: an exponential distribution that begins at the bottom.
    """
    lowest, median, highest = (float(v) for v in np.quantile(values, (0.0, 0.5, 1.0)))
    one_sided = median - lowest <= 0.1 * (highest - lowest)
    centre = lowest if one_sided else median
    scale = float(np.abs(values - centre, dtype=np.float64).mean())
    return Distribution(centre, max(scale, 1e-12), lowest, highest, one_sided)


def optimal_clip(fit: Distribution, levels: int, widen: float = 1.0) -> tuple[float, float]:
    """Lower and upper clip of least squared error for `levels`, its reach multiplied by `widen`.

    Two-sided clips keep the centre in the middle, where an odd number of levels has a level.
    """
    factor = 12 if fit.one_sided else 3
    reach = widen * fit.scale * float(lambertw(factor * (levels - 1) ** 2).real)
    if fit.one_sided:
        return fit.centre, fit.centre + reach
    return fit.centre - reach, fit.centre + reach
