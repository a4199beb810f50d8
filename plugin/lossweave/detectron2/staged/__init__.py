"""Staged training of Detectron2's R-CNN detectors."""
