"""A fitted pipeline as plain arrays: it predicts the same bits with numpy alone; see README.md."""
