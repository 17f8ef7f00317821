"""What `utility` is made of: what is trained on, training, words."""
