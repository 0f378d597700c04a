"""Parameters that make the costly systems quick: few detector fits, and a utility that is no step function.

The marginal rivals take their short cut here; test_rivals_with_models.py holds it and the refits to the definition.
"""

SMALL = {
    "resonant": {"ensemble": 1, "max_iter": 20, "folds": 3},
    "slad": {"epochs": 12, "width": 32, "hidden": 32, "learning_rate": 3e-3},
    "leave_one_out": {"metric": "brier", "refit": False},
    "data_shapley": {"budget": 4, "metric": "brier", "refit": False},
    "beta_shapley": {"budget": 4, "metric": "brier", "refit": False},
    "data_banzhaf": {"budget": 4, "metric": "brier", "refit": False},
    "influence": {"budget": 4, "metric": "brier", "refit": False},
    "average_marginal_effect": {"budget": 64, "metric": "brier"},
    "dvrl": {"budget": 20, "metric": "brier"},
    "data_oob": {"budget": 40},
    "glass_features": {"hidden": 16, "n_updates": 5},
    "autoencoder": {"latent": 3, "hidden": (32,), "steps": 500, "learning_rate": 5e-3},
    "hypersphere": {"latent": 64, "hidden": 200, "pretrain_epochs": 10, "epochs": 10},
    "contamination_posterior": {"n_draws": 500, "max_attempts": 1},
}

#: The same for systems of images: small pictures, small networks, random weights where the backbone's do not matter.
SMALL_IMAGES = {
    "image_embedder": {"image_size": 64},
    "patchcore": {"image_size": 64},
    "padim": {"image_size": 64, "n_features": 20},
    "gaussian_ad": {"image_size": 64},
    "pni": {"image_size": 64, "steps": 60, "hidden": 32},
    "mean_image": {"image_size": 64},
    "vae_gan": {"width_mult": 0.1, "image_size": 64, "epochs": 5},
    "simplenet": {"image_size": 64, "hidden": 64, "epochs": 40, "batch_size": 2},
    "efficientad": {"width_mult": 0.1, "image_size": 64, "steps": 100, "teacher_steps": 40, "n_penalty": 8},
    "patch_embedder": {"image_size": 64, "n_patches": 500},
    "mean_shifted_contrastive": {"image_size": 64, "epochs": 1},
    "outlier_exposure": {"image_size": 64, "epochs": 20},
    "image_hypersphere": {"latent": 16, "epochs": 5},
}

#: The same for detectors of series.
SMALL_SERIES = {
    "moving_average": {"window": 10},
    "sub_pca": {"window": 20},
    "kmeans_windows": {"window": 10},
    "on_windows": {"window": 10},
    "robust_tsf": {"forecaster": "linear", "epochs": 20},
    "hypad": {
        "window": 20,
        "recurrent": False,
        "hidden": 8,
        "decoder_hidden": 8,
        "epochs": 15,
        "critic_passes": 2,
        "learning_rate": 2e-3,
        "stride": 3,
    },
    "telemetry_monitor": {"trees": 60, "explainer_trees": 10, "folds": 2},
}

#: The same for detectors of event sequences.
SMALL_EVENTS = {
    "oc4seq": {"embedding": 16, "hidden": 16, "epochs": 6},
    "next_event": {"score": "likelihood", "hidden": 32, "layers": 1, "epochs": 20, "learning_rate": 5e-3},
}

#: The same for systems of graphs.
SMALL_GRAPHS = {
    "graph_hypersphere": {"epochs": 10, "batch_size": 50},
    "rqgnn": {"hidden": 16, "filters": 2, "terms": 3, "epochs": 15, "batch_size": 32},
    "graph_gin": {"hidden": 16, "epochs": 15, "batch_size": 32},
}
