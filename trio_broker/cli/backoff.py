"""How long to wait before trying again."""

import random
from collections.abc import Iterator

FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0


def delays() -> Iterator[float]:
    """Seconds before each further try: doubling up to a minute, a random half of it to keep clients apart."""
    delay = FIRST_DELAY
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(2 * delay, LONGEST_DELAY)
