"""The cost of combiners and boundaries beside the stock training step."""
