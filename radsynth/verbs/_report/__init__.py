"""What the report, the cards and the verdicts are made of: one part of the page a file."""
