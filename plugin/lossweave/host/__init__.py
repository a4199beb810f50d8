"""What both frameworks' adapters share."""
