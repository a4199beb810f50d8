"""Combiners of the terms' own gradients."""
