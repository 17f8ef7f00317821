"""What `train` is made of: the loop, which knows no task, and what watches, averages and selects."""
