"""Trainings that studies start, and the records that they leave."""
