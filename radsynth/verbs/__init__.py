"""The verbs: one a file, one public function of the same name in each."""
