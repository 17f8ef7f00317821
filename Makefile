# Everything is a script; this file only gives the scripts short names.
.PHONY: install demo test check docs
install demo test check docs:
	@scripts/$@
