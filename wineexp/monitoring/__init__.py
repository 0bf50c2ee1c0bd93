"""What a deployed model is watched with: the log of its predictions, drift, live tests of two versions."""
