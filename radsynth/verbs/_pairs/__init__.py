"""Results against the truth: numbers of tasks from image to image, beside methods that learn no network."""
