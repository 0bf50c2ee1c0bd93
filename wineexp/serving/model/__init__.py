"""A version that answers: its files, its checks, its predictions."""
