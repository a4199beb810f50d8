"""Combiners whose weights are learned from, or follow, the losses over the training."""
