"""Recipes around a detector: train it with the auxiliary anomalies worth training on, and measure what that gained."""
