"""What a deployed model is watched with: the log of its predictions, drift, live tests of two versions.

`prediction_log` is the entrance to the log: it reads one, with or without its truth, and opens one for writing. A log
is a folder (`journal`, `segments`) or a PostgreSQL database (`database`); `format` says what its rows hold; `writer`
takes rows from a server without delaying it; `truth` joins.
"""
