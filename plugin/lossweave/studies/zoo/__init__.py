"""Every config of MMDetection's zoo takes a combiner."""
