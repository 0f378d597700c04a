"""Parameters that make the costly systems quick: few detector fits, and a utility that is no step function."""

SMALL = {
    "leave_one_out": {"metric": "brier"},
    "data_shapley": {"budget": 4, "metric": "brier"},
    "beta_shapley": {"budget": 4, "metric": "brier"},
    "data_banzhaf": {"budget": 4, "metric": "brier"},
    "influence": {"budget": 4, "metric": "brier"},
    "average_marginal_effect": {"budget": 64, "metric": "brier"},
    "dvrl": {"budget": 20, "metric": "brier"},
    "data_oob": {"budget": 40},
    "contamination_posterior": {"n_draws": 500, "max_attempts": 1},
}
