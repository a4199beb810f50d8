"""What several tests share: toys, cases, references; imported as ``helpers.NAME``."""
