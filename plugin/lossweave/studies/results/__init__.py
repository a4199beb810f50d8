"""Reports and plots, made again from ledgers alone."""
