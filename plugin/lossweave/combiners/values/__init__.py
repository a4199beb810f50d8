"""Combiners that are fixed functions of the loss values."""
