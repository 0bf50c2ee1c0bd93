"""A fitted pipeline flattened to plain arrays, which answers bit for bit as the pipeline does, and needs numpy alone.

`flatten` makes the arrays, `proof` holds them against the pipeline, `form` reads them back as what nobody vouches for
and answers rows.
"""
