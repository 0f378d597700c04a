"""The report: nothing that comes in can break the page, and the page reads well in a real browser."""

import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from assay.core.validation import InputError
from assay.report import svg
from assay.report.ranking import COLUMNS, VERDICTS, RankingReport

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "]]><!-- --></style><style>*{display:none}",
    "{{ 7 * 7 }}",
    "\u202eright to left override שלום عربي",
    "nul\x00 bell\x07 surrogate\ud800",
    "x" * 4000,
    "word " * 800,
    "",
]


def quality_table(quality, prior, rng, names=None):
    """Return a plausible table for given qualities: the columns agree with one another as EAP's do."""
    n = len(quality)
    high, low = quality > 3 * prior, quality < 0.8 * prior
    verdict = np.where(high, "realistic", np.where(low, "indistinguishable", "unrealistic"))
    verdict[high & (quality < 6 * prior)] = "uncertain"
    evidence = np.where(high | low, rng.gamma(6, 0.15, n), rng.exponential(0.01, n))
    probability = np.clip((quality * (1 + evidence) - prior) / np.maximum(evidence, 1e-3), 0.01, 0.99)
    reasons = {
        "realistic": "Plausible density and high class probability; nearest real anomaly closer than most.",
        "indistinguishable": "Looks normal: the detector gives it less than the prior.",
        "unrealistic": "Off the manifold: most subsets hold no data near it.",
        "uncertain": "Above the prior, but within its margin.",
    }
    return {
        "row": names or [str(i) for i in range(n)],
        "quality": quality,
        "quality_std": quality * 0.1,
        "quality_p05": quality * 0.8,
        "quality_p95": quality * 1.2,
        "density": evidence / 300,
        "pseudo_count": evidence,
        "zero_density_share": np.where(verdict == "unrealistic", rng.uniform(0.5, 1, n), rng.uniform(0, 0.3, n)),
        "probability": probability,
        "epistemic": quality * (1 - quality) / (2 + evidence),
        "aleatoric": quality * (1 - quality) * (1 + evidence) / (2 + evidence),
        "verdict": verdict.tolist(),
        "nearest_normal": [str(i) for i in rng.integers(300, size=n)],
        "nearest_normal_distance": rng.gamma(5, 1, n),
        "nearest_anomaly": [str(i) for i in rng.integers(300, 330, size=n)],
        "nearest_anomaly_distance": rng.gamma(4, 1, n),
        "reason": [reasons[one] for one in verdict],
        "selected": (quality > np.quantile(quality, 0.66)) & high,
    }


def make_report(n=600, **changes):
    """Return a full report on breast_cancer: auxiliary rows are moved tumours, moved normals and far rows."""
    data = load_breast_cancer()
    rng = np.random.default_rng(0)
    X = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    normal, anomaly = X[data.target == 1], X[data.target == 0]
    third = max(n // 3, 1)
    good = anomaly[rng.integers(len(anomaly), size=third)] + rng.normal(0, 0.3, (third, 30))
    bad = normal[rng.integers(len(normal), size=third)] + rng.normal(0, 0.05, (third, 30))
    far = rng.normal(0, 6, (max(n - 2 * third, 0), 30)) * rng.gamma(2, 1, (max(n - 2 * third, 0), 1))
    X_aux = np.vstack([good, bad, far])[:n]
    prior = 12 / (len(normal) + 12)
    quality = np.concatenate(
        [rng.beta(6, 12, third), rng.uniform(0.2, 0.95, third) * prior, prior * rng.normal(1, 0.03, len(far))]
    )[:n]
    fields = {
        "title": "breast_cancer: perturbed tumours",
        "table": quality_table(quality, prior, rng),
        "prior": prior,
        "X_normal": normal,
        "X_anomaly": anomaly[:12],
        "X_aux": X_aux,
        "feature_names": [str(name) for name in data.feature_names],
        "gain": {
            "metric": "ROC AUC",
            "rows": [
                {"training": "normals + real anomalies", "mean": 0.903, "std": 0.021, "n": 5},
                {"training": "… + all auxiliary rows", "mean": 0.861, "std": 0.034, "n": 5},
                {"training": "… + as many at random", "mean": 0.899, "std": 0.025, "n": 5},
                {"training": "… + the kept auxiliary rows", "mean": 0.958, "std": 0.012, "n": 5},
            ],
            "note": "Real test anomalies only; five random splits; logistic regression.",
        },
        "probe": {
            "auroc": 0.53,
            "p_value": 0.21,
            "verdict": "No artefact found: the unchanged parts look real.",
        },
        "suggestions": [
            {
                "generator": name,
                "strength": strength,
                "quality": base * np.exp(-((strength - 1) ** 2)),
                "quality_std": 0.02,
                "share_realistic": round(base * 2, 2),
            }
            for name, base in [("mixup", 0.31), ("noise", 0.12), ("cutout", 0.22)]
            for strength in (0.25, 0.5, 1.0, 2.0)
        ],
        "run": {
            "command": "assay rank normal.csv --anomalies 'real ones.csv' --auxiliary made.csv --seed 331",
            "seed": 331,
            "seconds": 7.31,
            "parameters": {"n_subsets": 100, "k_min": 5, "rule": "otsu"},
            "versions": {"assay": "0.1.0", "numpy": "2.1.0", "scikit-learn": "1.6.0"},
            "data": {"normal.csv": "sha256:" + "3f" * 32, "made.csv": "sha256:" + "a1" * 32},
        },
    }
    return RankingReport(**(fields | changes))


def hostile_report():
    """Return a report in which every text is an attack."""
    report = make_report()
    n = len(report.X_aux)
    texts = [HOSTILE[i % len(HOSTILE)] for i in range(n)]
    table = dict(report.table) | {name: texts for name in ("row", "reason", "nearest_normal", "nearest_anomaly")}
    nasty = HOSTILE[0] + HOSTILE[1]
    return make_report(
        title=nasty + "y" * 300,
        table=table,
        feature_names=[HOSTILE[i % len(HOSTILE)] for i in range(30)],
        gain={
            "metric": nasty,
            "rows": [{"training": text, "mean": 0.5, "std": 0.1, "n": 3} for text in HOSTILE],
            "note": nasty,
        },
        probe={"auroc": 0.99, "p_value": None, "verdict": nasty + "z" * 500},
        suggestions=[{"generator": text, "strength": 1.0, "quality": 0.1, text: text} for text in HOSTILE],
        run={"command": "\n".join(HOSTILE), "<b>": {nasty: HOSTILE}, "w" * 500: "w" * 500},
    )


class Tags(HTMLParser):
    """Collects tags, attributes, identifiers and text of a page, and checks that elements nest."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, page):
        super().__init__()
        self.names, self.attributes, self.open, self.texts = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)


def words(page):
    return " ".join(" ".join(Tags(page).texts).split())


# --- the page -----------------------------------------------------------------------------------------------


def test_the_page_counts_right():
    report = make_report()
    text = words(report.html())
    counts = {verdict.name: list(report.table["verdict"]).count(verdict.name) for verdict in VERDICTS}
    kept = int(np.sum(report.table["selected"]))
    assert f"Of 600 auxiliary rows, {counts['realistic']} (" in text
    assert f"{kept} (" in text
    real = np.asarray(report.table["verdict"]) == "realistic"
    others = kept - int(np.sum(report.table["selected"][real]))
    assert others > 0 and f"{others} of the kept are not judged realistic" in text
    assert "Quality is not a probability." in text
    assert f"rests on {len(report.X_normal)} normal rows and 12 real anomalies" in text
    for name, count in counts.items():
        assert f"{name}: {count}" in text or count == 0
    assert "ROC AUC rises from 0.903 to 0.958" in text


def test_the_best_and_worst_rows_are_listed_in_order():
    report = make_report(shown=4)
    order = np.argsort(-np.asarray(report.table["quality"]), kind="stable")
    listed = re.findall(r'<th scope="row" class="name"><bdi>(\d+)</bdi>', report.html())
    assert listed == [str(i) for i in [*order[:4], *order[::-1][:4]]]


def test_the_same_data_give_the_same_page():
    assert make_report().html() == make_report().html()


def test_what_is_missing_is_left_out():
    text = make_report(gain=None, probe=None, suggestions=None, run={}).html()
    for anchor in ("gain", "probe", "suggestions", "again"):
        assert f'id="{anchor}"' not in text and f'href="#{anchor}"' not in text
    full = make_report().html()
    for anchor in ("gain", "probe", "suggestions", "again"):
        assert f'id="{anchor}"' in full and f'href="#{anchor}"' in full


def test_a_probe_that_could_measure_nothing_is_said_in_words():
    probe = {"auroc": float("nan"), "p_value": None, "verdict": "Nothing to check.", "copies": 0.25}
    page = make_report(probe=probe).html()
    assert "Nothing to check." in words(page) and "copies 0.25" in words(page)
    assert page.count('role="img"') == 7 and "p-value" not in page


def test_suggestions_of_any_columns_are_a_table():
    page = make_report(suggestions=[{"a_name": "x", "b": 1.5}, {"b": None, "c": True}]).html()
    assert "a name b c x 1.5 – – – yes" in words(page)
    assert page.count('role="img"') == 7


def test_rows_keep_their_names():
    table = dict(make_report(n=3).table) | {
        "row": ["1234567", "b", "c"],
        "nearest_normal": np.array([1234567, 2, 3]),
        "nearest_anomaly": [7654321.0, 2, 3],
    }
    text = words(make_report(n=3, table=table, run={"seed": 1234567}).html())
    assert text.count("1234567") == 3 and "7654321 at" in text


def test_a_gain_within_the_spread_is_called_so():
    rows = [
        {"training": "real", "mean": 0.90, "std": 0.03, "n": 3},
        {"training": "more", "mean": 0.92, "std": 0.03, "n": 3},
    ]
    text = words(make_report(gain={"metric": "ROC AUC", "rows": rows, "note": ""}).html())
    assert "no other training data raised ROC AUC by more than the spread" in text
    assert "within the spread" in text and "beyond the spread" not in text


def test_hostile_text_stays_text():
    page = hostile_report().html()
    tags = Tags(page)
    assert not {"script", "img", "iframe", "object", "b"} & set(tags.names)
    assert tags.names.count("style") == 1
    assert not [name for _, attributes in tags.attributes for name in attributes if name.startswith("on")]
    assert "7 * 7" in page and "{{ 49" not in page
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", page)
    page.encode("utf-8")


def test_the_page_refuses_scripts_and_the_network():
    tags = Tags(make_report().html())
    policy = next(attributes["content"] for tag, attributes in tags.attributes if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy
    links = [attributes.get("href", "") + attributes.get("src", "") for _, attributes in tags.attributes]
    assert all(link.startswith(("#", "data:")) for link in links if link)
    assert not [attributes for _, attributes in tags.attributes if "style" in attributes]


def test_links_lead_somewhere():
    tags = Tags(make_report().html())
    targets = {attributes["id"] for _, attributes in tags.attributes if "id" in attributes}
    assert {attributes["href"][1:] for tag, attributes in tags.attributes if tag == "a"} <= targets


@pytest.mark.parametrize(
    "case", ["none kept", "all the same", "one row", "no anomalies", "one feature", "far", "constant"]
)
def test_edges(case):
    rng = np.random.default_rng(0)
    report = make_report(n=1 if case == "one row" else 60)
    n, prior, changes = len(report.X_aux), report.prior, {}
    if case == "none kept":
        changes = {"table": dict(report.table) | {"selected": [False] * n}}
    elif case == "all the same":
        changes = {"table": quality_table(np.full(n, prior), prior, rng)}
    elif case == "no anomalies":
        nothing = {
            "nearest_anomaly": [None] * n,
            "nearest_anomaly_distance": [float("nan")] * n,
            "nearest_normal": [float("nan")] * n,
            "nearest_normal_distance": [float("nan")] * n,
        }
        changes = {"X_anomaly": np.empty((0, 30)), "table": dict(report.table) | nothing}
    elif case == "one feature":
        changes = {name: getattr(report, name)[:, :1] for name in ("X_normal", "X_anomaly", "X_aux")}
        changes["feature_names"] = ["only"]
    elif case == "far":
        changes = {"X_aux": report.X_aux * 1e100}
    elif case == "constant":
        changes = {name: np.zeros_like(getattr(report, name)) for name in ("X_normal", "X_anomaly", "X_aux")}
    page = make_report(n=n, **changes).html()
    Tags(page)
    drawn = "".join(re.findall(r'(?:d|x|y|x1|x2|y1|y2|width|height|viewBox)="([^"]*)"', page))
    assert "nan" not in drawn.lower() and "inf" not in drawn.lower()
    if case == "none kept":
        assert "None was kept" in page
    if case == "one row":
        assert "Of 1 auxiliary row," in page and "Lowest quality" not in page
    if case == "far":
        assert "beyond the frame" in page


def test_fifty_thousand_rows_make_a_small_file(tmp_path):
    path = make_report(n=50_000).write(tmp_path / "deep" / "report.html")
    assert path.stat().st_size < 3_000_000
    assert re.search(r"unrealistic \(600 of \d\d,\d{3}\)", path.read_text(encoding="utf-8"))
    assert [one.name for one in path.parent.iterdir()] == ["report.html"]


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    path = make_report().write(tmp_path / "report.html")
    before = path.read_bytes()
    report = make_report(title="new")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        report.write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_input_is_refused_by_name():
    good = dict(make_report(n=6).table)
    with pytest.raises(InputError, match="lacks the columns reason"):
        make_report(n=6, table={name: good[name] for name in COLUMNS if name != "reason"})
    with pytest.raises(InputError, match="'verdict' has 5 elements"):
        make_report(n=6, table=good | {"verdict": good["verdict"][:5]})
    with pytest.raises(InputError, match="splendid"):
        make_report(n=6, table=good | {"verdict": ["splendid"] * 6})
    with pytest.raises(InputError, match="'quality' holds NaN"):
        make_report(n=6, table=good | {"quality": [float("nan")] * 6})
    with pytest.raises(InputError, match="no rows"):
        make_report(n=6, table={name: [] for name in COLUMNS})
    with pytest.raises(InputError, match="X_normal has shape"):
        make_report(n=6, X_normal=np.zeros((4, 3)))
    with pytest.raises(InputError, match="X_aux has 2 rows"):
        make_report(n=6, X_aux=np.zeros((2, 30)))


# --- the charts ---------------------------------------------------------------------------------------------


def points(chart, css):
    """Return how many marks of a class a chart shows, without the one in the legend."""
    return sum(path.count("M") for path in re.findall(rf'class="mark \w+ {css}" d="([^"]*)"', chart)) - 1


def test_a_scatter_draws_every_point_and_counts_the_far_ones():
    rng = np.random.default_rng(0)
    series = [svg.Series("a", rng.normal(size=50), rng.normal(size=50), css="c-1")]
    chart = svg.scatter(series, title="t", x_label="x", y_label="y")
    assert points(chart, "c-1") == 50 and "beyond" not in chart
    x, y = series[0].x, series[0].y
    far = int(((np.abs(x) > 1) | (np.abs(y) > 1)).sum())
    chart = svg.scatter(series, title="t", x_label="x", y_label="y", x_limits=(-1, 1), y_limits=(-1, 1))
    assert points(chart, "c-1") == 50 and f"{far} points lie beyond the frame" in chart


def test_a_large_class_is_thinned_and_the_legend_says_so():
    big = svg.Series("big", np.arange(5000.0), np.arange(5000.0), css="c-1")
    small = svg.Series("small", np.arange(5.0), np.arange(5.0), css="c-2")
    chart = svg.scatter([big, small], title="t", x_label="x", y_label="y", cap=100)
    assert points(chart, "c-1") == 100 and points(chart, "c-2") == 5
    assert "big (100 of 5,000)" in chart and "thinned at random" in chart


def test_points_without_a_place_are_counted():
    one = svg.Series("a", np.array([0.0, np.nan, 1.0]), np.array([0.0, 1.0, np.inf]), css="c-1")
    chart = svg.scatter([one], title="t", x_label="x", y_label="y")
    assert points(chart, "c-1") == 1 and "2 points lie without a finite place" in chart


def test_charts_of_nothing_are_still_charts():
    for chart in (
        svg.scatter([], title="t", x_label="x", y_label="y"),
        svg.histograms([], title="t", x_label="x"),
        svg.bars([], [], title="t"),
        svg.shares([], [], [], title="t"),
        svg.lines([], title="t", x_label="x", y_label="y"),
    ):
        assert chart.startswith("<svg") and "nan" not in chart


def test_bars_are_as_long_as_their_numbers():
    chart = svg.bars(["a", "b", "c"], [1.0, 0.5, float("nan")], title="t", errors=[0.1, 0.0, 0.0])
    widths = [float(width) for width in re.findall(r'<rect class="fill c-1"[^>]* width="([\d.]+)"', chart)]
    assert len(widths) == 2 and widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert "1.00 ± 0.100" in chart and ">–<" in chart


def test_lines_join_their_points_in_order_with_whiskers():
    one = svg.Series(
        "a",
        np.array([2.0, 1.0, 3.0]),
        np.array([0.2, 0.1, 0.3]),
        css="c-1",
        error=np.array([0.1, 0.1, np.nan]),
    )
    chart = svg.lines([one], title="t", x_label="x", y_label="y")
    route = re.search(r'<path class="line c-1" d="M([^"]*)"', chart).group(1)
    across = [float(point.split()[0]) for point in route.split("L")]
    assert across == sorted(across) and len(across) == 3
    assert chart.count('<line class="line c-1"') == 2


def test_shares_fill_the_bar():
    chart = svg.shares(["a", "b", "c"], [1, 3, 0], ["c-1", "c-2", "c-3"], title="t")
    widths = [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', chart)]
    assert sum(widths) == pytest.approx(svg.WIDTH, abs=3)
    assert 'aria-label="t: a 25 %, b 75 %, c 0 %"' in chart


def test_every_chart_escapes_its_texts():
    nasty, one = HOSTILE[1], np.array([0.0, 1.0])
    series = [svg.Series(nasty, one, one, css=nasty)]
    rules = [svg.Rule(0.5, nasty)]
    for chart in (
        svg.scatter(series, title=nasty, x_label=nasty, y_label=nasty, rules=rules),
        svg.histograms(series, title=nasty, x_label=nasty, rules=rules),
        svg.bars([nasty], [1.0], title=nasty, css=nasty, rules=rules),
        svg.shares([nasty], [1], [nasty], title=nasty),
        svg.lines(series, title=nasty, x_label=nasty, y_label=nasty, rules=rules),
    ):
        tags = Tags(chart)
        assert "img" not in tags.names
        assert tags.attributes[0][1]["role"] == "img" and tags.attributes[0][1]["aria-label"]
        assert "title" in tags.names


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.7, 12.2), (0.0161, 0.0169), (1e6, 9e6), (-1e-9, 1e-9)])
def test_ticks_are_few_round_and_inside(low, high):
    ticks = svg.nice_ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in ticks)
    assert len(set(svg._tick_texts(ticks))) == len(ticks)


# --- in a browser -------------------------------------------------------------------------------------------


def visit(browser, path, *, width, theme):
    """Open a page cut off from the network; return it with all requests and all complaints."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.route(lambda url: not url.startswith("file:"), lambda route: route.abort())
    page.goto(path.as_uri())
    return page, requests, complaints


@pytest.fixture(scope="module", params=["real", "hostile", "large"])
def written(request, tmp_path_factory):
    make = {"real": make_report, "hostile": hostile_report, "large": lambda: make_report(n=20_000)}[request.param]
    return make().write(tmp_path_factory.mktemp("report") / f"{request.param}.html")


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_in_a_browser(browser, written, width, theme):
    page, requests, complaints = visit(browser, written, width=width, theme=theme)
    try:
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert requests == [written.as_uri()]
        assert complaints == []
        named = "svg => svg.ariaHidden === 'true' || (svg.getAttribute('role') === 'img' && !!svg.ariaLabel)"
        assert page.evaluate(f"[...document.querySelectorAll('svg')].every({named})")
        assert page.locator("svg[role=img]").count() == 8
        styled = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert styled == ("rgb(251, 250, 248)" if theme == "light" else "rgb(19, 21, 25)")
        # No chart's text leaves the page or shrinks below what can be read.
        sizes = page.evaluate(
            "[...document.querySelectorAll('svg.chart')].map(svg => parseFloat(getComputedStyle("
            "svg.querySelector('text')).fontSize) * svg.getBoundingClientRect().width / 400)"
        )
        assert min(sizes) >= 9.5
        edges = page.evaluate(
            "[...document.querySelectorAll('svg.chart text')].map(text => text.getBoundingClientRect())"
            ".map(box => [box.left, box.right])"
        )
        assert min(left for left, _ in edges) >= -1 and max(right for _, right in edges) <= width + 1
    finally:
        page.close()


@pytest.mark.browser
def test_wide_tables_scroll_inside_their_box(browser, tmp_path):
    page, _, _ = visit(browser, make_report().write(tmp_path / "r.html"), width=360, theme="light")
    try:
        boxes = page.evaluate(
            "[...document.querySelectorAll('.scroll')].map(box => [box.scrollWidth, box.clientWidth])"
        )
        assert all(client <= 360 for _, client in boxes)
        assert any(scroll > client for scroll, client in boxes)
        names = page.evaluate(
            "[...document.querySelectorAll('.scroll')].every(box => box.ariaLabel && box.tabIndex === 0)"
        )
        assert names
    finally:
        page.close()
