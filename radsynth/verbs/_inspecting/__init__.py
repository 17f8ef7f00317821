"""What `inspect` is made of: what it found, its page, and what it looks for in names, masks and labels."""
