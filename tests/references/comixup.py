"""Co-Mixup, Kim et al. 2021, section 4: the objective of one part of a batch."""

from __future__ import annotations

from collections.abc import Sequence


def objective(
    weights: Sequence,
    worth: Sequence,
    alike: Sequence,
    numbers: tuple[float, float, float],
) -> float:
    """Return what outputs are worth; cells are of one size.

    Args:
        weights: (m outputs, m images, rows, columns).
        worth: (m, rows, columns) of the images' cells.
        alike: (m, m).
        numbers: beta, gamma and the threshold, in units of whole images.
    """
    beta, gamma, threshold = numbers
    m, rows, columns = len(worth), len(worth[0]), len(worth[0][0])
    cells = [(y, x) for y in range(rows) for x in range(columns)]
    total = 0.0
    for output in weights:
        for k in range(m):
            for y, x in cells:
                total += output[k][y][x] * worth[k][y][x]
                for below, right in ((y + 1, x), (y, x + 1)):
                    if below < rows and right < columns:
                        step = output[k][y][x] - output[k][below][right]
                        total -= beta / (rows * columns) / 2 * step**2
    shares = [
        [sum(output[k][y][x] for y, x in cells) / (rows * columns) for k in range(m)]
        for output in weights
    ]
    for j in range(m):
        for k in range(m):
            elsewhere = sum(
                alike[other][k] * shares[i][other] for i in range(m) if i != j for other in range(m)
            )
            if elsewhere > threshold:
                total -= gamma * rows * columns * shares[j][k] * elsewhere
    return total
