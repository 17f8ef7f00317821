"""Losses: pure functions of tensors, the paper's equation above each. A table at the end of a module names them."""
