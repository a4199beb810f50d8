"""What a comparison's sums say of their weights: the front, and the scale of a loss."""
