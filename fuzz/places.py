"""Where corpora and findings are, and how large a corpus may be."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "fuzz" / "corpus"
"""A directory for each target, which `make test` runs."""
WORK = ROOT / ".fuzz"
"""What grows while fuzzing, and the findings: not for the repository."""

MAXIMUM_FILES = 300
MAXIMUM_BYTES = 300_000
FINDING = "finding-"
"""What the name of a file begins with that stays in its corpus, whatever it reaches."""
