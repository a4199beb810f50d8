"""What the reports of all studies share: tables, plots, paired statistics."""
