"""The field's metrics: pure functions of labels and scores."""
