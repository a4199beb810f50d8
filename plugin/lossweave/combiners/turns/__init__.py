"""Combiners that let the terms take turns."""
