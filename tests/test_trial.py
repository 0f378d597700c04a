"""The trial's cell: its pool, its measures against hand-computed ones, and that they can tell good from bad."""

import numpy as np
import pytest
from sklearn.svm import SVC

from assay import SSDO
from assay.base import Detector, QualityScore
from assay.benchmark import trial as trial_module
from assay.benchmark.config import Cell, Method, Trial
from assay.benchmark.engine import Skip
from assay.benchmark.trial import (
    OPTIONS,
    RELATIVES,
    SVC_SHARES,
    areas,
    chosen_model,
    curve,
    family,
    foreign_names,
    judge_of,
    measure,
    order,
)
from assay.datasets.tables import available
from assay.detectors.tabular.adapters import ClassifierDetector

BUNDLED = {"foreign": "bundled", "max_normals": 150}


def trial(**methods):
    methods = methods or {"class_probability": Method("class_probability", {})}
    return Trial(name="t", datasets=("ionosphere",), seeds=(0,), methods=methods, options=dict(BUNDLED), digest="")


def pool_of(dataset="ionosphere", seed=0, **options):
    return trial_module._pool(dataset, seed, tuple(sorted({**OPTIONS, **BUNDLED, **options}.items())))


# -- the pool -------------------------------------------------------------------------------------------------------


def test_foreign_rows_never_come_from_relatives():
    for group in RELATIVES:
        for name in group:
            assert not group & set(foreign_names(name))
    assert {family(name) for name in foreign_names("cardio")} == {"table"}
    resnet = foreign_names("cv_by_resnet18/mvtec-ad_grid")
    assert len(resnet) > 10 and {family(name) for name in resnet} == {"cv_by_resnet18"}
    # The same texts by another network are no foreign rows.
    assert not any("20news" in name for name in foreign_names("nlp_by_bert/20news_3"))
    assert set(foreign_names("cardio", "bundled")) == set(available(bundled=True)) - {"cardiotocography"}


def test_a_pool_is_the_same_again_and_differs_by_seed():
    one, digest = pool_of()
    trial_module._pool.cache_clear()
    again, same = pool_of()
    assert digest == same and np.array_equal(one.X_aux, again.X_aux)
    assert pool_of(seed=1)[1] != digest
    assert np.bincount(one.kind).tolist() == [58, 58, 58] and one.y_train.sum() == 5


@pytest.mark.parametrize("wanted", [0.1, 0.6])
def test_a_pool_can_be_recomposed(wanted):
    pool, _ = pool_of(realistic_share=wanted, known_anomalies=2)
    share = (pool.kind == 0).mean()
    assert abs(share - wanted) < 0.01 and pool.y_train.sum() == 2
    sizes = np.bincount(pool.kind)
    assert sizes[1] == sizes[2]
    # Shuffled: the kind cannot be told from the place.
    assert 0.3 < np.mean(np.flatnonzero(pool.kind == 0)) / len(pool.kind) < 0.7


def test_a_data_set_below_the_counts_is_skipped_with_the_reason():
    with pytest.raises(Skip, match="126 anomalies, at least 1000 needed"):
        pool_of(min_anomalies=1000)


# -- the measures ---------------------------------------------------------------------------------------------------


def test_areas_by_hand():
    shares = (0.0, 1 / 6, 1 / 3, 1.0)
    whole, first, third = areas(shares, [0.5, 0.7, 0.9, 0.5])
    assert third == 0.9
    assert first == pytest.approx((0.6 + 0.8) / 2)
    assert whole == pytest.approx((0.6 + 0.8) / 6 + 0.7 * 2 / 3)
    assert areas(SVC_SHARES, [0.8] * len(SVC_SHARES)) == pytest.approx((0.8, 0.8, 0.8))


def test_ties_keep_the_order_of_storage():
    assert order(np.array([0.1, 0.9, 0.1, 0.9])).tolist() == [1, 3, 0, 2]


def test_a_curve_adds_the_best_rows_first():
    pool, _ = pool_of()
    ranking = np.arange(len(pool.kind))
    shares = (0.0, 1 / 3, 1.0)
    values = curve(SVC(), pool, ranking, shares, (0.25, 0.75))
    X = np.vstack([pool.X_train, pool.X_aux[: len(pool.kind) // 3]])
    y = np.concatenate([pool.y_train, np.ones(len(pool.kind) // 3)])
    assert values == [0.25, (SVC().fit(X, y).predict(pool.X_test) == pool.y_test).mean(), 0.75]


def test_the_model_and_its_threshold_are_chosen_on_the_validation_set():
    kept = np.array([True, True, False])
    good = (np.array([0.1, 0.2, 0.3]), np.array([0.8, 0.9, 0.0]), None)
    bad = (np.array([0.8, 0.9, 0.7]), np.array([0.1, 0.2, 1.0]), None)
    assert chosen_model([bad, good], kept) == (1, pytest.approx(0.55))
    # With the rows the other way round the other model wins: only kept rows count.
    assert chosen_model([bad, good], ~kept)[0] == 0


class Oracle(QualityScore):
    """Knows the kinds."""

    def __init__(self, sign=1.0):
        self.sign = sign

    def _fit(self, X, y, rng):
        self.fitted_ = True

    def _quality(self, X_aux):
        pool, _ = pool_of()
        assert np.array_equal(X_aux, pool.X_aux)
        return self.sign * (pool.kind == 0)


def rows_of_oracles(monkeypatch):
    monkeypatch.setattr(trial_module, "judge_of", lambda trial, cell: Oracle(1.0 if cell.method == "best" else -1.0))
    methods = {"best": Method("eap", {}), "worst": Method("eap", {})}
    return [measure(trial(**methods), Cell("ionosphere", 0, name)) for name in methods]


def test_an_oracle_and_its_opposite_are_told_apart_by_every_measure(monkeypatch):
    best, worst = rows_of_oracles(monkeypatch)
    assert best["auc"] == best["auc_indistinguishable"] == best["auc_unrealistic"] == 1 and worst["auc"] == 0
    assert best["otsu_accuracy"] == best["third_accuracy"] == 1 and worst["third_accuracy"] < 0.4
    for learner in ("svc", "forest"):
        margin = {"svc": 0.03, "forest": 0.0}[learner]  # a forest suffers little from useless rows
        for name in ("area", "first_third", "third"):
            assert best[f"{learner}_{name}"] > worst[f"{learner}_{name}"] + margin
        assert best[f"{learner}_ascending_area"] < best[f"{learner}_area"]
        assert best[f"{learner}_start"] == worst[f"{learner}_start"] == best[f"{learner}_curve"][0]
        assert best[f"{learner}_all"] == best[f"{learner}_curve"][-1] == best[f"{learner}_ascending_curve"][-1]
    assert best["threshold_accuracy"] > worst["threshold_accuracy"]
    assert best["selected_auc_at_random"] <= best["oracle_selected_auc"]
    assert best["selected_auc"] >= best["selected_auc_at_random"]


def test_a_row_holds_its_counts_and_repeats():
    cell = Cell("ionosphere", 0, "class_probability")
    one, two = measure(trial(), cell), measure(trial(), cell)
    one.pop("quality_cpu_seconds")
    two.pop("quality_cpu_seconds")
    assert one == two
    assert (one["n_train"], one["n_known"], one["n_features"], one["n_auxiliary"]) == (109, 5, 32, 174)
    assert one["fits"] == 1 and len(one["quality"]) == 174
    without = Trial("t", ("ionosphere",), (0,), trial().methods, {**BUNDLED, "curves": False, "selection": False}, "")
    assert {name for name in one if name.startswith(("svc", "forest", "selected"))}
    assert not {name for name in measure(without, cell) if name.startswith(("svc", "forest", "selected"))}


def test_methods_are_built_from_their_names():
    methods = {
        "plain": Method("eap", {}),
        "named": Method("eap", {"detector": "knn", "n_subsets": 3}),
        "table": Method("eap", {"detector": {"system": "ssdo", "alpha": 1.0}}),
        "learner": Method("class_probability", {"detector": "logistic"}),
        "still": Method("rarity_density", {}),
    }
    judges = {name: judge_of(trial(**methods), Cell("ionosphere", 0, name)) for name in methods}
    assert isinstance(judges["named"].detector, Detector) and judges["named"].n_subsets == 3
    assert isinstance(judges["table"].detector, SSDO) and judges["table"].detector.alpha == 1.0
    assert isinstance(judges["learner"].detector, ClassifierDetector)
    # Every method judges with the same seed, another one for another data set.
    assert judges["plain"].random_state == judges["learner"].random_state
    assert judge_of(trial(**methods), Cell("wilt", 0, "plain")).random_state != judges["plain"].random_state
