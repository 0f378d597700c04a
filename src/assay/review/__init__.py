"""A person in the loop: rank, show, ask, learn, rank again. Start with `assay.review.ranking.ActiveRanker`."""
