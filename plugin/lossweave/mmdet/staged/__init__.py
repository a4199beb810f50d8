"""Staged training of MMDetection's two-stage detectors."""
