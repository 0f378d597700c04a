"""Whatever is sent to the review's JSON interface, the answer is no crash: Schemathesis reads its own description."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from assay.review.app import create_app
from assay.review.guard import Signer
from assay.review.project import Project
from assay.review.session import Review

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

SECRET = b"k" * 32


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(60, 3)))
    review = Review(Project.create(folder / "p", folder / "x.npy"))
    yield schemathesis.openapi.from_asgi("/openapi.json", create_app(review, SECRET, {"testserver", "localhost"}))
    review.close()


def test_no_input_crashes_the_server(schema):
    sender = {
        "X-Assay-Form": Signer(SECRET).form_token("Ann"),
        "Cookie": f"{Signer(SECRET).name_cookie}={Signer(SECRET).cookie('Ann')}",
    }
    seen = set()

    def ask(case, headers):
        response = case.call(headers=headers)
        seen.add((case.method, case.path, response.status_code))
        assert response.status_code < 500, response.text

    for operation in (result.ok() for result in schema.get_all_operations()):
        quick = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        quick(given(case=operation.as_strategy())(lambda case: ask(case, sender)))()
        ask(operation.Case(path_parameters={"item": 0}), {})
    assert {status for _, _, status in seen} >= {200, 401, 422}
    assert len({(method, path) for method, path, _ in seen}) == 9
