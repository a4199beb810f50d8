"""Terms taking turns beside the sum."""
