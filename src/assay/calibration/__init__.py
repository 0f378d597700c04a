"""Scores into decisions and probabilities: a threshold is an object of its own, chosen for a promise it keeps."""
