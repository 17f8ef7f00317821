"""What `apply` is made of: one image through each kind of run (`applier`, `segmenter`, `registrar`, `painter`), tiles,
resampling onto grids and back, doubts about results.
"""
