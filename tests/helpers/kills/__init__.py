"""Trainings killed in named moments, each in a process of its own, and gone on with."""
