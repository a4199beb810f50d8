"""The scale of one loss against the other's, by optimizer and clipping."""
