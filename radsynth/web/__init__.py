"""The web pages: an explorer of what a generator draws, and the blinded reader study. They read run folders only.

serve.py     the verb: keys, address, server
app.py       guards (keys, origin, host, sizes, content policy) and the table of pages
explorer.py  pictures of synthetic images and of walks along directions
study.py     the study: its images, its answers, its table for other programs
"""
