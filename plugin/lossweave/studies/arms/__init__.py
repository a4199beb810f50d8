"""Arms: one training with one thing set in several ways, each with several seeds, paired."""
