"""Why a score is what it is, and whether a detector can be trusted on the data it is given."""
