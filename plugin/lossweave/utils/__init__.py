"""Files, ranks, and where a number comes from."""
