"""Ridge regression with the penalty of least leave-one-out error, in closed form (ESL, 7.10)."""

from dataclasses import dataclass

import numpy as np

from edge.policy.gain import Waves
from lab.evaluate.mixture import Floats

PENALTIES = np.logspace(0, 5, 21)
WAVES = 200
_FLAT = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """y = bias + weights . z, with z = (x - mean) / scale, or waves of that.

    `mean` and `scale` are (features,), `weights` (features,) or (waves,).
    """

    mean: Floats
    scale: Floats
    weights: Floats
    bias: float
    waves: Waves | None = None

    def predict(self, x: Floats) -> Floats:
        """Predictions (N,) for features (N, features)."""
        z = (x - self.mean) / self.scale
        seen = wave(z, self.waves) if self.waves else z
        predicted: Floats = seen @ self.weights + self.bias
        return predicted


def fit_ridge(x: Floats, y: Floats) -> Ridge:
    """Fit features (N, features) to targets (N,); features that never vary get no weight."""
    mean, scale = _scales(x)
    weights = _weights((x - mean) / scale, y)
    return Ridge(mean, scale, weights, float(y.mean()))


def fit_waves(x: Floats, y: Floats) -> Ridge:
    """Ridge on 200 random Fourier features, which is kernel ridge regression with a Gaussian kernel.

    Far from every picture it has seen it says the mean, where a linear fit would run on. The kernel's width
    is the root of the number of features.
    """
    random = np.random.default_rng(0)
    mean, scale = _scales(x)
    frequencies = random.normal(size=(WAVES, x.shape[1])) / np.sqrt(x.shape[1])
    phases = random.uniform(0, 2 * np.pi, WAVES)
    waves = Waves(tuple(map(tuple, frequencies.tolist())), tuple(phases.tolist()))
    seen = wave((x - mean) / scale, waves)
    centre = seen.mean(axis=0)
    weights = _weights(seen - centre, y)
    return Ridge(mean, scale, weights, float(y.mean() - centre @ weights), waves)


def wave(z: Floats, waves: Waves) -> Floats:
    """Waves (N, waves) of standardised features (N, features)."""
    seen: Floats = np.cos(z @ np.array(waves.frequencies).T + np.array(waves.phases))
    return seen


def _scales(x: Floats) -> tuple[Floats, Floats]:
    deviation = x.std(axis=0)
    return x.mean(axis=0), np.where(deviation > _FLAT, deviation, 1.0)


def _weights(z: Floats, y: Floats) -> Floats:
    """Weights of the centred `z` (N, features)."""
    u, s, vt = np.linalg.svd(z, full_matrices=False)
    centred = y - y.mean()
    projected = u.T @ centred
    penalty = min(PENALTIES, key=lambda p: _leave_one_out(u, s, projected, centred, p))
    weights: Floats = vt.T @ (s / (s**2 + penalty) * projected)
    return weights


def _leave_one_out(u: Floats, s: Floats, projected: Floats, centred: Floats, penalty: float) -> float:
    """Mean squared error of each target predicted from the others: residual / (1 - leverage)."""
    shrink = s**2 / (s**2 + penalty)
    residual = centred - u @ (shrink * projected)
    leverage = (u**2) @ shrink + 1.0 / len(centred)
    return float(np.mean((residual / np.maximum(1.0 - leverage, _FLAT)) ** 2))
