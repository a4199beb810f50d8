"""A penalty on the weights: the data's loss against it over lambda, and where the corner lies."""
