"""What a comparison's sums say of their weights: the front, and the curve of the two losses."""
