"""What `control` and `explain` are made of: codes, directions, walks, inversion, attribution."""
