"""Seeded mutations of configs and command lines: each is valid and trains, or ends in one line."""
