"""The review in a real browser: by keyboard, through a crash, by two people, on the map, and for everyone to use."""

import json
import urllib.request

import numpy as np
import pytest

from assay.review.labels import LabelStore
from assay.review.project import Project
from servers import serving, wait_for

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    rng = np.random.default_rng(0)
    parts = [
        rng.normal(size=(600, 4)),
        rng.normal(size=(20, 4)) * 0.3 + [7, 0, 0, 0],
        rng.normal(size=(20, 4)) * 0.3 + [0, 5, 0, 0],
    ]
    path = tmp_path_factory.mktemp("source") / "x.npy"
    np.save(path, np.concatenate(parts))
    return path


@pytest.fixture
def project(source, tmp_path):
    return Project.create(tmp_path / "p", source)


def visit(browser, server, name, **context):
    """Return a page on which someone is known by name; it notes complaints and requests to anywhere else."""
    page = browser.new_context(**context).new_page()
    page.complaints = []
    page.on(
        "console",
        lambda message: page.complaints.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on(
        "request",
        lambda request: page.complaints.append(request.url) if not request.url.startswith(server.url) else None,
    )
    page.goto(server.address)
    page.fill("#name", name)
    page.click("button.primary")
    page.wait_for_selector("#item")
    page.wait_for_load_state()  # keys mean something once the script is there
    return page


def shown(page):
    return int(page.get_attribute("#item", "data-item"))


def press(page, key):
    """Press a key and wait for the item to change; return the item that was there."""
    before = shown(page)
    page.keyboard.press(key)
    page.wait_for_function("before => document.getElementById('item').dataset.item !== before", arg=str(before))
    return before


def learn(page, server):
    page.goto(server.url + "/settings")
    page.click("#retrain button")
    page.wait_for_function("() => /^(Learned|It failed)/.test(document.querySelector('#training span').textContent)")
    return page.inner_text("#training span")


def test_thirty_labels_by_keyboard_survive_a_crash_and_change_the_order(browser, project):
    with serving(project.folder) as server:
        page = visit(browser, server, "Ann")
        given = {}
        for _ in range(30):
            value = 5 if shown(page) >= 620 else 0
            given[press(page, str(value))] = value
        before = page.goto(server.url + "/") and shown(page)
        server.kill()
    store = LabelStore(project.database, project.settings.id)
    assert {item: said["Ann"] for item, said in store.current().items()} == given
    store.close()
    with serving(project.folder) as server:
        page = visit(browser, server, "Ann")
        page.goto(server.url + "/progress")
        assert "30" in page.inner_text(".tiles")
        upcoming = page.goto(server.url + "/") and page.locator(".upcoming a").all_inner_texts()
        item = press(page, "1")
        assert item not in given
        page.keyboard.press("u")
        page.wait_for_function("item => document.getElementById('item').dataset.item === item", arg=str(item))
        assert "Learned from 30" in learn(page, server)
        page.goto(server.url + "/")
        assert page.locator(".upcoming a").all_inner_texts() != upcoming or shown(page) != before
        assert page.complaints == []
        assert "Traceback" not in server.stop()


def test_two_people_at_once_and_back_and_forth(browser, project):
    with serving(project.folder) as server:
        ann, bob = visit(browser, server, "Ann"), visit(browser, server, "Bob")
        assert shown(ann) != shown(bob)
        seen = [press(ann, "2"), press(bob, "4"), press(ann, "ArrowRight"), press(bob, "0")]
        assert len(set(seen)) == 4
        skipped = seen[2]
        ann.keyboard.press("ArrowLeft")
        ann.wait_for_function("item => document.getElementById('item').dataset.item === item", arg=str(skipped))
        ann.goto(server.url + "/progress")
        table = ann.inner_text("section >> text=Bob >> xpath=ancestor::table")
        assert "Ann" in table and "Bob" in table
        assert ann.complaints == bob.complaints == []


def test_the_map_by_mouse_and_by_keyboard(browser, project):
    with serving(project.folder) as server:
        page = visit(browser, server, "Ann", viewport={"width": 1280, "height": 900})
        page.goto(server.url + "/map")
        page.wait_for_selector("#legend li")
        box = page.locator("#map").bounding_box()
        corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.02)]
        spots = [(box["x"] + a * box["width"], box["y"] + b * box["height"]) for a, b in corners]
        page.mouse.move(*spots[0])
        page.mouse.down()
        for spot in spots[1:]:
            page.mouse.move(*spot, steps=3)
        page.mouse.up()
        page.wait_for_function("() => document.getElementById('map-words').textContent.includes('640 items')")
        page.focus("#map")
        for key in ("+", "+", "+", "+", "+", "+", "+"):
            page.keyboard.press(key)
        page.click("#visible")
        words = page.inner_text("#map-words")
        count = int(words.split()[0])
        assert 0 < count < 640
        page.select_option("#colour", "said")
        page.click("#open")
        page.wait_for_selector(".notice")
        assert f"{count} items picked" in page.inner_text(".notice")
        page.click("#all-items")
        page.wait_for_selector("#item")
        page.wait_for_function("() => document.querySelector('#main > .notice') === null")
        assert page.complaints == []


def test_fifty_thousand_points_are_drawn_quickly(browser, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(50_000, 3)))
    with serving(Project.create(tmp_path / "p", tmp_path / "x.npy", detector="mahalanobis").folder) as server:
        page = visit(browser, server, "Ann")
        page.goto(server.url + "/map")
        page.wait_for_selector("#legend li")
        taken = []
        for _ in range(5):
            page.focus("#map")
            page.keyboard.press("ArrowLeft")
            page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            taken.append(float(page.get_attribute("#map", "data-milliseconds")))
        assert np.median(taken) < 100, taken


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everyone_can_use_every_screen(browser, project, width, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with serving(project.folder) as server:
        page = visit(browser, server, "Ann", viewport={"width": width, "height": 844}, color_scheme=theme)
        first = press(page, "3")
        for path in ("/", f"/?item={first}&remedy=true", "/map", "/progress", "/settings", "/enter"):
            page.goto(server.url + path)
            if "remedy" in path:
                assert page.locator("#remedy table").count() == 1
            if path == "/map":
                page.wait_for_selector("#legend li")
            # Nothing is cut off at the side.
            assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth"), path
            found = axe.Axe().run(page).response["violations"]
            serious = [
                (one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")
            ]
            assert serious == [], path
        assert [one for one in page.complaints if "Content Security Policy" not in one] == []


def test_what_would_make_an_item_ordinary(browser, project):
    with serving(project.folder) as server:
        page = visit(browser, server, "Ann")
        page.keyboard.press("w")
        page.wait_for_selector("#remedy table")
        assert page.evaluate("() => document.activeElement.id") == "remedy-head"
        assert page.locator("#remedy tbody tr").count() >= 1
        assert "trained again" in page.inner_text("#said")
        assert page.complaints == []


def test_a_judgement_with_the_keyboard_alone(browser, project):
    with serving(project.folder) as server:
        page = visit(browser, server, "Ann")
        item = shown(page)
        page.focus("body")
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("() => document.activeElement.value") == "4":
                break
        page.keyboard.press("Enter")
        page.wait_for_function("before => document.getElementById('item').dataset.item !== before", arg=str(item))
        # What happened is said aloud, and the focus is where the new item begins.
        assert "Judged 4" in page.inner_text("#said")
        assert page.evaluate("() => document.activeElement.id") == "item-name"


def test_without_a_script(browser, project):
    with serving(project.folder) as server:
        page = visit(browser, server, "Ann", java_script_enabled=False)
        item = shown(page)
        page.click('button[value="5"]')
        assert shown(page) != item
        page.click("#undo button")
        assert shown(page) == item


def test_the_server_ends_in_order_and_its_description_is_there(project):
    with serving(project.folder) as server:
        told = json.load(urllib.request.urlopen(f"{server.url}/openapi.json"))
        assert "/api/labels" in told["paths"]
        wait_for(lambda: server.process.poll() is None)
        assert "Traceback" not in server.stop()
        assert server.process.returncode in (0, 130)
