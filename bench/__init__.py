"""What the broker costs: measured beside others, in parts, and as the work grows. See README.md."""
