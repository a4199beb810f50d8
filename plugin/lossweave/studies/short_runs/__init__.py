"""Every combiner of gradients for a short run."""
