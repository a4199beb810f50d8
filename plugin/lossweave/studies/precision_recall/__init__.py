"""Detectors beside each other at one budget: what recall costs in precision."""
