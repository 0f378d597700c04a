"""What every system of images promises."""

import hashlib
import inspect
import json
import re

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

import assay
from assay import Calibrated, FalseAlarmRate
from assay.base import Localizer
from assay.catalogue import find, load_class, of_role
from assay.core.images import Images, resized_mask
from assay.core.validation import InputError
from assay.detectors.images.export import export_onnx
from small import SMALL_IMAGES
from test_contracts import assert_clear, entries_of, parameters_of, sections_of

#: (promise, system) -> why the system cannot keep it.
EXEMPT = {
    ("exported", "mean_image"): "two pictures and a blur: nothing that needs a file of its own",
}

DETECTORS = [entry.name for entry in of_role("detector", "images")]
GENERATORS = [entry.name for entry in of_role("generator", "images")]
EMBEDDERS = [entry.name for entry in of_role("embedder", "images")]
EVERYTHING = DETECTORS + GENERATORS + EMBEDDERS
LOCALIZERS = [entry.name for entry in of_role("detector", "images") if entry.localises]
SIZE = 64


def promise(name, systems):
    return pytest.mark.parametrize("system", [system for system in systems if (name, system) not in EXEMPT])


def make(system, seed=0, **parameters):
    cls = load_class(find(system))
    seeded = {"random_state": seed} if "random_state" in parameters_of(cls) else {}
    return cls(**seeded, **{**SMALL_IMAGES.get(system, {}), **parameters})


def stripes(n, rng, size=SIZE):
    """Draw noisy stripes of a random phase, (n, size, size, 3)."""
    phase = rng.uniform(0, 2 * np.pi, size=(n, 1, 1))
    wave = 128 + 60 * np.sin(np.arange(size) / 3 + phase) * np.ones((1, size, 1))
    grey = np.clip(wave + rng.normal(scale=6, size=(n, size, size)), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3)


def spoiled(images, rng):
    """Return the images with a bright blot somewhere, and the masks of the blots."""
    images, masks = images.copy(), np.zeros(images.shape[:3], dtype=bool)
    for image, mask in zip(images, masks):
        top, left = rng.integers(8, SIZE - 24, size=2)
        mask[top : top + 16, left : left + 16] = True
        image[mask] = [250, 40, 40]
    return images, masks


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pictures():
    """Return normal images to train on, fresh normal ones, anomalous ones and their masks."""
    rng = np.random.default_rng(0)
    train, fresh = stripes(24, rng), stripes(8, rng)
    return train, fresh, *spoiled(stripes(8, rng), rng)


def fitted_to(system, train, seed=0, **parameters):
    model = make(system, seed, **parameters)
    if getattr(model, "labels", "normals") == "required":
        rng = np.random.default_rng(7)
        bad, _ = spoiled(stripes(8, rng), rng)
        return model.fit(np.concatenate([train, bad]), np.repeat([0, 1], [len(train), len(bad)]))
    return model.fit(train)


@pytest.fixture(scope="module")
def models(pictures):
    """Return a function that gives each detector, fitted once."""
    known = {}

    def fitted(system):
        if system not in known:
            known[system] = fitted_to(system, pictures[0])
        return known[system]

    return fitted


@promise("documentation", EVERYTHING)
def test_the_docstring_names_every_fitted_attribute(system, pictures):
    model = fitted_to(system, pictures[0])
    documented = [name for cls in type(model).__mro__ for name in entries_of(sections_of(cls).get("Attributes", []))]
    learned = [name for name in vars(model) if name.endswith("_")]
    assert [name for name in learned if name not in documented] == []
    assert all(name.endswith("_") or name in parameters_of(type(model)) for name in vars(model))


@promise("parameters_checked", EVERYTHING)
def test_a_senseless_parameter_is_named(system, pictures):
    for name, parameter in inspect.signature(load_class(find(system))).parameters.items():
        if isinstance(parameter.default, bool):
            continue
        model = make(system).set_params(**{name: object()})
        with pytest.raises((InputError, TypeError)) as error:
            model.fit(*refit_arguments(model, pictures[0]))
            model.sample(2) if system in GENERATORS else model
        assert_clear(error, name)


@promise("not_fitted", DETECTORS)
def test_not_fitted(system, pictures):
    with pytest.raises(NotFittedError, match=load_class(find(system)).__name__):
        make(system).anomaly_score(pictures[1])


@promise("training_matters", DETECTORS)
def test_anomalies_score_higher(system, models, pictures):
    _, fresh, bad, _ = pictures
    scores = models(system).anomaly_score(np.concatenate([fresh, bad]))
    assert scores.shape == (16,) and np.isfinite(scores).all() and np.ptp(scores) > 0
    assert roc_auc_score(np.repeat([0, 1], 8), scores) > 0.9


@promise("localises", LOCALIZERS)
def test_the_map_shows_the_blot(system, models, pictures):
    _, _, bad, masks = pictures
    model = models(system)
    assert isinstance(model, Localizer)
    scores, maps = model.locate(bad)
    assert maps.dtype == np.float32 and maps.ndim == 3 and len(maps) == len(bad)
    assert np.isfinite(maps).all()
    np.testing.assert_allclose(scores, model.anomaly_score(bad), rtol=1e-5)
    at_size = np.stack([resized_mask(mask, maps.shape[1:]) for mask in masks])
    assert roc_auc_score(at_size.ravel(), maps.ravel()) > 0.8


@promise("alone", DETECTORS)
def test_an_image_is_scored_alone_and_in_any_order(system, models, pictures):
    _, fresh, bad, _ = pictures
    images = np.concatenate([fresh, bad])
    together = models(system).anomaly_score(images)
    for rows in ([5], [15, 0, 7], list(range(16))[::-1]):
        np.testing.assert_allclose(models(system).anomaly_score(images[rows]), together[rows], rtol=1e-4, atol=1e-6)


@promise("inputs", DETECTORS)
def test_kinds_of_images(system, models, pictures, tmp_path):
    from PIL import Image

    bad = pictures[2][:2]
    bad.setflags(write=False)
    model = models(system)
    expected = model.anomaly_score(bad)
    files = [tmp_path / f"{name}.png" for name in ("a ä ö", "b")]
    for path, image in zip(files, bad):
        Image.fromarray(image).save(path)
    alpha = np.concatenate([bad, np.full((*bad.shape[:3], 1), 255, dtype=np.uint8)], axis=3)
    for same in (list(bad), files, tmp_path, alpha, bad / 255.0, bad.astype(np.uint16) * 257, Images(files)):
        np.testing.assert_allclose(model.anomaly_score(same), expected, rtol=1e-4, atol=1e-6)
    grey = bad[..., 1]
    np.testing.assert_allclose(
        model.anomaly_score(grey), model.anomaly_score(np.repeat(grey[..., None], 3, 3)), rtol=1e-6
    )
    assert np.isfinite(model.anomaly_score([bad[0], bad[1][:40, :50]])).all()


@promise("inputs", DETECTORS + EMBEDDERS)
@pytest.mark.parametrize("wrong", [np.zeros((3, 8)), np.full((2, 8, 8), np.nan), [], "no such folder", 7])
def test_bad_input_is_one_clear_error(system, wrong):
    with pytest.raises(InputError) as error:
        model = make(system)
        model.fit(wrong, [0, 1] if getattr(model, "labels", "normals") == "required" else None)
        model.transform(wrong)  # an embedder may not look at the images before
    assert_clear(error, "X")


def fingerprints(systems):
    """Return a hash of what every system computes from fixed images."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(3)
    train, fresh = stripes(12, rng), stripes(4, rng)
    answers = {}
    with threadpool_limits(1):
        for system in systems:
            model = fitted_to(system, train)
            if system in GENERATORS:
                drawn = model.sample(6)
                parts = [drawn.X, drawn.mask, drawn.touched, drawn.parents]
            else:
                parts = [model.transform(fresh) if system in EMBEDDERS else model.anomaly_score(fresh)]
            answers[system] = hashlib.sha256(
                b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
            ).hexdigest()
    return answers


@pytest.fixture(scope="module")
def bits_of_two_processes(run_python):
    code = "import json, test_image_contracts as t; print(json.dumps(t.fingerprints(t.EVERYTHING)))"
    return fingerprints(EVERYTHING), json.loads(run_python(code).splitlines()[-1])


@promise("same_bits", EVERYTHING)
def test_same_seed_same_bits_in_two_processes(system, bits_of_two_processes):
    here, there = bits_of_two_processes
    assert here[system] == there[system]


@promise("no_global_state", EVERYTHING)
def test_no_global_state_and_refit_forgets(system, pictures):
    train, fresh, bad, _ = pictures
    before = np.random.get_state()[1].tobytes(), torch.random.get_rng_state().numpy().tobytes()
    model = fitted_to(system, train[:12])
    fitted_again = fitted_to(system, bad)
    fitted_again = model.__class__.fit(fitted_again, *refit_arguments(model, train[:12]))
    assert (np.random.get_state()[1].tobytes(), torch.random.get_rng_state().numpy().tobytes()) == before
    if system in GENERATORS:
        assert (model.sample(3).X == fitted_again.sample(3).X).all()
    elif system in EMBEDDERS:
        assert (model.transform(fresh) == fitted_again.transform(fresh)).all()
    else:
        np.testing.assert_allclose(model.anomaly_score(fresh), fitted_again.anomaly_score(fresh), rtol=1e-5)


def refit_arguments(model, train):
    if getattr(model, "labels", "normals") != "required":
        return (train,)
    rng = np.random.default_rng(7)
    bad, _ = spoiled(stripes(8, rng), rng)
    return np.concatenate([train, bad]), np.repeat([0, 1], [len(train), len(bad)])


@promise("saving", EVERYTHING)
def test_saved_and_loaded_it_answers_the_same(system, pictures, models, tmp_path):
    fresh = pictures[1]
    model = models(system)
    assay.save(model, tmp_path / "model")
    again = assay.load(tmp_path / "model")
    if system in GENERATORS:
        assert (again.sample(3).X == model.sample(3).X).all()
    elif system in EMBEDDERS:
        assert (again.transform(fresh) == model.transform(fresh)).all()
    else:
        assert (again.anomaly_score(fresh) == model.anomaly_score(fresh)).all()


@promise("calibrated", DETECTORS)
def test_calibrated_decides(system, pictures):
    if make(system).labels == "required":
        pytest.skip("learns from labelled anomalies: calibrated in its own tests")
    train, _, bad, _ = pictures
    model = Calibrated(make(system), FalseAlarmRate(0.2), cv=2, random_state=0).fit(train)
    decisions = model.predict(bad)
    assert set(decisions) <= {-1, 1} and (decisions == -1).mean() > 0.5


@promise("exported", LOCALIZERS)
def test_the_exported_detector_gives_the_same_scores(system, models, pictures, tmp_path):
    import onnxruntime

    bad = pictures[2][:4]
    model = models(system)
    path = export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path)
    images = np.concatenate(list(Images(bad).batches((model.image_size, model.image_size))))
    scores, maps = model.locate(bad)
    for image, score, scores_at in zip(images, scores, maps):
        exported, at = session.run(None, {"images": image[None]})
        np.testing.assert_allclose(exported[0], score, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(at[0], scores_at, rtol=1e-4, atol=1e-4)


# -- generators ------------------------------------------------------------------------------------------------------


@promise("generator", GENERATORS)
def test_a_generator_keeps_its_contract(system, pictures):
    train = pictures[0].copy()
    model = make(system).fit(train)
    assert (train == pictures[0]).all()
    drawn = model.sample(10)
    assert drawn.X.dtype == np.uint8 and drawn.X.shape[0] == 10 and drawn.X.shape[3] == 3
    assert drawn.mask.shape == drawn.touched.shape == drawn.X.shape[:3]
    origin = model.parents_[drawn.parents]
    assert ((origin != drawn.X).any(axis=3) == drawn.mask).all()
    assert (drawn.mask <= drawn.touched).all()
    assert drawn.mask.any(axis=(1, 2)).all() and not any(meta["noop"] for meta in drawn.meta)
    json.dumps(drawn.meta)
    again = model.sample(10)
    assert (again.X == drawn.X).all() and again.meta == drawn.meta
    assert (model.sample(10, random_state=99).X != drawn.X).any()
    still = model.sample(4, strength=0)
    assert not still.mask.any() and (model.parents_[still.parents] == still.X).all()


@promise("generator", GENERATORS)
def test_strength_is_visible(system, pictures):
    model = make(system).fit(pictures[0])
    change = []
    for strength in (0.25, 1.0):
        drawn = model.sample(30, strength=strength)
        change.append(np.abs(drawn.X.astype(float) - model.parents_[drawn.parents]).mean())
    assert 0 < change[0] < change[1]


def test_every_exemption_is_about_a_system():
    assert all(system in EVERYTHING and re.search(r"\w", reason) for (_, system), reason in EXEMPT.items())
