"""A second version on live traffic: in the shadow of the champion, or with a share of the requests. See README.md."""
