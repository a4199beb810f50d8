"""What every combiner makes of two losses that share their parameters; no detector, no data."""
