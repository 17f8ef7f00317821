"""What `evaluate` is made of: the two sides of a comparison, measuring, ranking."""
