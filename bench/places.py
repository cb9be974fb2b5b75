"""Where figures are kept, and where they are published."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".bench"
"""What was measured last, and what brokers have logged meanwhile: not for the repository."""
RUNS = WORK / "runs.jsonl"
MICRO = WORK / "micro.json"
GROWTH = WORK / "growth.jsonl"
LOGS = WORK / "logs"

PUBLISHED = ROOT / "docs" / "performance"
"""Tables and pictures, made by `python -m bench publish`."""
