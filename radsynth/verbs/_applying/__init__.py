"""What `apply` is made of: tiles, resampling onto grids and back, painting masks, doubts about results."""
