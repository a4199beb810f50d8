"""Faster R-CNN in four steps against joint training."""
