"""Two trainings on the demo data, side by side."""
