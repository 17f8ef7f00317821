"""What `audit` is made of, and the filter of `generate` that stands on it: copies and attacks."""
