"""Networks that MMDetection lacks or that are mended here."""
