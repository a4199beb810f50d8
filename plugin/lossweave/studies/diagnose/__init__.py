"""One plain training, looked at: scales, conflicts, noise, and what the optimizer makes of them."""
