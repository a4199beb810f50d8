"""Combiners beside a tuned sum."""
