"""How often the test of two versions is wrong, and how many labels it needs, looked at after each label.

python benchmarks/monitoring/live_tests.py                      # 10,000 streams of each kind, in minutes
python benchmarks/monitoring/live_tests.py --streams 500
"""

import argparse

import numpy as np
import numpy.typing as npt
from scipy import stats
from tqdm import tqdm

from wineexp.monitoring.live_test import BETTER_SHARE, LOG_WEIGHTS, STAKES
from wineexp.monitoring.sequential import difference_range, difference_values

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
# Streams that are computed at once.
BATCH = 250


def first_verdicts(gains: Floats) -> tuple[Floats, Floats]:
    """After how many labels each stream (n_streams, n_labels) is called better, and worse; infinity for never."""
    streams, labels = gains.shape
    bounds = np.log(1 / ((1 - LEVEL) * np.array([BETTER_SHARE, 1 - BETTER_SHARE])))
    first = np.full((2, streams), np.inf)
    capitals = np.broadcast_to(LOG_WEIGHTS, (2, streams, len(STAKES))).copy()
    for label in range(labels):
        for side, sign in enumerate((1, -1)):
            capitals[side] += np.log1p(sign * gains[:, label, None] * STAKES)
            greatest = capitals[side].max(axis=1)
            log_e = greatest + np.log(np.exp(capitals[side] - greatest[:, None]).sum(axis=1))
            first[side, (log_e >= bounds[side]) & np.isinf(first[side])] = label + 1
    return first[0], first[1]


def pairs(generator: np.random.Generator, shape: tuple[int, int], gain: float, differing: float) -> Floats:
    """Gains of right-or-wrong decisions of two versions that answer the same rows."""
    shares = [(differing + gain) / 2, (differing - gain) / 2]
    return generator.choice([1.0, -1.0, 0.0], shape, p=[*shares, 1 - sum(shares)])


def two_streams(generator: np.random.Generator, shape: tuple[int, int], gain: float, share: float) -> Floats:
    """Gains, as parts of their greatest, where each row is answered by one version, right in 60 % of the cases."""
    second = generator.random(shape) < share
    right = generator.random(shape) < 0.6 + gain * second
    # The share is estimated, as the program does.
    return np.stack([
        difference_values(values, mask, mask.mean()) / difference_range(mask.mean())[1]
        for values, mask in zip(right.astype(float), second, strict=True)
    ])  # fmt: skip


def squared_errors(generator: np.random.Generator, shape: tuple[int, int], gain: float, tails: float) -> Floats:
    """Gains of cut-off squared errors of two versions, whose errors have the heavy tails of Student's t."""
    common = generator.standard_t(tails, shape)
    one, other = (0.9 * common + np.sqrt(1 - 0.81) * generator.standard_t(tails, shape) for _ in range(2))
    cut = stats.t.ppf(0.995, tails)
    first, second = (np.minimum(np.abs(errors), cut) ** 2 / cut**2 for errors in (one, np.sqrt(1 - gain) * other))
    return np.asarray(first - second)


def peeked_z_test(gains: Floats) -> float:
    """The share of streams that a fixed-sample z-test after each label from the 31st on ever calls different."""
    counts = np.arange(1, gains.shape[1] + 1)
    means = np.cumsum(gains, axis=1) / counts
    variances = np.cumsum(gains**2, axis=1) / counts - means**2
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.abs(means) / np.sqrt(variances / counts)
    return float((z[:, 30:] > stats.norm.ppf(0.975)).any(axis=1).mean())


CASES = (
    ("shadow: no difference, 20 % differ", pairs, (0.0, 0.2), 5000),
    ("shadow: no difference, 5 % differ", pairs, (0.0, 0.05), 5000),
    ("shadow: +5 points, 20 % differ", pairs, (0.05, 0.2), 5000),
    ("shadow: +2 points, 20 % differ", pairs, (0.02, 0.2), 5000),
    ("shadow: -5 points, 20 % differ", pairs, (-0.05, 0.2), 5000),
    ("split 50 %: no difference", two_streams, (0.0, 0.5), 5000),
    ("split 10 %: no difference", two_streams, (0.0, 0.1), 5000),
    ("split 50 %: +5 points", two_streams, (0.05, 0.5), 5000),
    ("split 10 %: +5 points", two_streams, (0.05, 0.1), 5000),
    ("numbers in shadow: no difference", squared_errors, (0.0, 4.0), 2000),
    ("numbers in shadow: squared error 10 % less", squared_errors, (0.1, 4.0), 2000),
)


def main() -> None:
    """Simulate every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--only", default="", help="cases that have this in their name")
    arguments = parser.parse_args()
    print("| case | labels | better | worse | median labels | peeked z-test |\n|---|---:|---:|---:|---:|---:|")
    for name, make, parameters, labels in CASES:
        if arguments.only not in name:
            continue
        generator = np.random.default_rng(0)
        better, worse, peeked = [], [], []
        for start in tqdm(range(0, arguments.streams, BATCH), desc=name, leave=False):
            gains = make(generator, (min(BATCH, arguments.streams - start), labels), *parameters)
            first = first_verdicts(gains)
            better.append(first[0])
            worse.append(first[1])
            peeked.append(peeked_z_test(gains))
        up, down = np.concatenate(better), np.concatenate(worse)
        median = np.median(np.minimum(up, down))
        print(
            f"| {name} | {labels} | {np.isfinite(up).mean():.2%} | {np.isfinite(down).mean():.2%} | "
            f"{median:.0f} | {np.mean(peeked):.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
