"""Weights of the sum and a learning rate, found by paired and racing trainings."""
