"""Box losses beside each other, on training boxes with gross errors."""
