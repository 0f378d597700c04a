"""The report of a benchmark: its numbers are the table's, nothing is dropped in silence, nothing breaks the page."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pyarrow as pa
import pytest

import test_report
from assay.core.validation import InputError
from assay.metrics.comparison import average_ranks, bootstrap_interval, holm, paired_tests
from assay.report.trial import critical_difference_svg, heat_map_svg, summary, trial_report
from test_report import HOSTILE, visit


class Tags(test_report.Tags):
    VOID = (*test_report.Tags.VOID, "wbr")


def words(page):
    """Return the text of a page; a word that may be broken is one word."""
    return " ".join(" ".join(Tags(page.replace("<wbr>", "")).texts).split())


def make_tables(datasets=12, methods=5, seeds=3, without=(), names=None, noise=0.01):
    """Return a table and its costs: method 0 is best, each next one a little worse, 10 times as slow.

    `without` holds (data set, seed or None for all, method, status, reason).
    """
    rng = np.random.default_rng(0)
    sets = [f"set_{d:02d}" for d in range(datasets)]
    names = names or [f"method_{k}" for k in range(methods)]
    level, rows, costs = rng.uniform(0.6, 0.9, datasets), [], []
    for d in range(datasets):
        own = rng.normal(0, noise, methods)
        for s in range(seeds):
            for k in range(methods):
                auc = float(np.clip(level[d] - 0.02 * k + own[k] + rng.normal(0, 0.005), 0, 1))
                hit = [one for one in without if one[0] == d and one[2] == k and one[1] in (None, s)]
                status, reason = hit[0][3:] if hit else ("done", None)
                row = {"dataset": sets[d], "seed": s, "method": names[k], "status": status, "reason": reason}
                values = {"auc": auc, "auc_indistinguishable": auc - 0.1, "auc_unrealistic": min(auc + 0.1, 1.0)}
                rows.append(row | (dict.fromkeys(values) if hit else values))
                cost = {"dataset": sets[d], "seed": s, "method": names[k], "seconds": 10.0 ** (k - 2), "fits": 100 * k}
                costs.append(cost | {"cpu_seconds": 1.0})
    return pa.Table.from_pylist(rows), pa.Table.from_pylist(costs)


FAILURES = (
    (3, None, 2, "failed", "MemoryError: 12 GiB asked"),
    (5, 1, 4, "skipped", "needs labels"),
    (7, None, 2, "failed", "MemoryError: 12 GiB asked"),
)


def scores_of(table, measure="auc"):
    """Return the mean over seeds, (D, K), in order of name: the naive way."""
    frame = table.to_pandas()
    done = frame[frame.status == "done"]
    return done.pivot_table(index="dataset", columns="method", values=measure, aggfunc="mean")


# --- the numbers --------------------------------------------------------------------------------------------


def test_the_summary_is_what_the_metrics_say():
    table, _ = make_tables()
    scores = scores_of(table)
    rows = {row["method"]: row for row in summary(table)}
    assert list(next(iter(rows.values()))) == [
        "method", "mean", "seed_spread", "low", "high", "rank", "wins", "draws", "losses", "p",
    ]  # fmt: skip
    frame = table.to_pandas()
    spread = frame.groupby(["method", "dataset"]).auc.std().groupby("method").mean()
    low, high = bootstrap_interval(scores.to_numpy())
    p = holm(paired_tests(scores.to_numpy(), 0))
    for k, name in enumerate(scores.columns):
        row = rows[name]
        assert row["mean"] == pytest.approx(scores[name].mean())
        assert row["seed_spread"] == pytest.approx(spread[name])
        assert (row["low"], row["high"]) == pytest.approx((low[k], high[k]))
        assert row["rank"] == pytest.approx(average_ranks(scores.to_numpy())[k])
        if k == 0:
            assert [row[key] for key in ("wins", "draws", "losses", "p")] == [None] * 4
        else:
            assert row["wins"] == (scores[name] > scores["method_0"]).sum()
            assert row["losses"] == (scores[name] < scores["method_0"]).sum()
            assert row["p"] == pytest.approx(p[k])
    ordered = [row["rank"] for row in summary(table)]
    assert ordered == sorted(ordered)


def test_a_set_that_one_method_lacks_is_left_out_for_all():
    table, costs = make_tables(without=FAILURES)
    kept = [name not in ("set_03", "set_07") for name in table["dataset"].to_pylist()]
    assert summary(table) == summary(table.filter(pa.array(kept)))
    # The failed sets are the others' best: to count them would show.
    loud = table.to_pandas()
    loud.loc[(loud.dataset == "set_03") & (loud.method != "method_2"), "auc"] = 1.0
    assert summary(pa.Table.from_pandas(loud)) == summary(table)
    text = words(trial_report(table, costs))
    assert "2 data sets of 12 are left out of means, ranks and tests for all methods" in text
    assert "set_03 : no result of method_2" in text and "set_07 : no result of method_2" in text
    assert "Over 10 data sets on which every method has a result." in text


def test_a_seed_that_one_method_lacks_counts_for_none():
    table, costs = make_tables(without=FAILURES[1:2])
    frame = table.to_pandas()
    without = frame[~((frame.dataset == "set_05") & (frame.seed == 1))]
    assert summary(table) == summary(pa.Table.from_pandas(without))
    assert "On 1 data set only the seeds count at which every method has a result." in words(trial_report(table, costs))


def test_failures_as_last_place_stand_beside():
    table, costs = make_tables(without=FAILURES)
    scores = scores_of(table).to_numpy()
    assert np.isnan(scores).sum() == 2
    page = trial_report(table, costs)
    assert "failures last" in words(page)
    assert f'<td class="figure">{average_ranks(scores)[2]:.2f}</td>' in page
    assert "failures last" not in words(trial_report(*make_tables()))


def test_a_method_without_results_is_named_and_does_not_stop_the_others():
    nothing = [(d, None, 3, "skipped", "the extra deep is missing") for d in range(12)]
    table, costs = make_tables(without=nothing)
    rows = summary(table)
    others = table.filter(pa.array([name != "method_3" for name in table["method"].to_pylist()]))
    assert rows[:-1] == summary(others)
    assert rows[-1]["method"] == "method_3" and set(list(rows[-1].values())[1:]) == {None}
    text = words(trial_report(table, costs))
    assert "Without a single result, and so not compared: method_3" in text
    assert "left out of means" not in text and "among 4 methods" in text


def test_the_reference_without_results_leaves_nothing_to_compare_with():
    table, costs = make_tables(without=[(d, None, 0, "failed", "no") for d in range(12)])
    assert {row["p"] for row in summary(table)} == {None} == {row["wins"] for row in summary(table)}
    assert "method_1 has the best average rank" in words(trial_report(table, costs))


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.2])
def test_the_headline_counts_right(noise):
    table, costs = make_tables(without=FAILURES, noise=noise)
    scores = scores_of(table).dropna()
    best = average_ranks(scores.to_numpy()).argmin()
    top = int((scores.to_numpy().argmax(axis=1) == best).sum())
    better = holm(paired_tests(scores.to_numpy(), best)) < 0.05
    unbeaten = [name for k, name in enumerate(scores.columns) if k != best and not better[k]]
    text = words(trial_report(table, costs))
    assert f"{scores.columns[best]} has the best average rank" in text
    assert f"the highest auc on {top} of 10 data sets" in text
    assert len(unbeaten) == {0.01: 0, 0.03: 1, 0.2: 4}[noise]
    if unbeaten:
        *first, last = unbeaten
        names = f"{' , '.join(first)} and {last}" if first else last
        assert f"better than {4 - len(unbeaten) or 'none'} of the other 4; against {names} that is not shown" in text
    else:
        assert "It is significantly better than every other method." in text


def test_leaders_that_tie_share_the_headline():
    table, _ = make_tables(methods=2, datasets=8)
    frame = table.to_pandas()
    frame["auc"] = [0.5 + 0.1 * ((int(d[-2:]) % 2) == int(m[-1])) for d, m in zip(frame.dataset, frame.method)]
    text = words(trial_report(pa.Table.from_pandas(frame)))
    assert "method_0 and method_1 share the best average rank, 1.50 among 2 methods" in text
    assert "As a whole, no difference between the methods is shown" in text


def test_costs_are_means_over_what_is_compared():
    table, costs = make_tables(without=FAILURES)
    frame = costs.to_pandas()
    frame.loc[frame.dataset == "set_03", "seconds"] = 1e9
    frame.loc[(frame.dataset == "set_05") & (frame.seed == 1), "seconds"] = 1e9
    page = trial_report(table, pa.Table.from_pandas(frame))
    text = words(page)
    assert "1e+" not in text and "Cost and rank" in text
    assert '<td class="figure">400</td><td class="figure">100.0</td>' in re.sub(r"\s*\n\s*", "", page)
    text = words(trial_report(table, costs.drop_columns(["fits", "cpu_seconds"])))
    assert " fits " not in text and "seconds" in text
    assert "Cost and rank" not in words(trial_report(table))


# --- the page -----------------------------------------------------------------------------------------------


def test_every_method_and_every_failure_is_on_the_page():
    table, costs = make_tables(without=FAILURES)
    text = words(trial_report(table, costs, title="The trial", notes=["First note.", "Second note."]))
    for k in range(5):
        assert text.count(f"method_{k}") >= 5  # summary, figures, pairwise summaries, coverage
    assert "method_2 failed MemoryError: 12 GiB asked set_03 (0, 1, 2), set_07 (0, 1, 2)" in text
    assert "method_4 skipped needs labels set_05 (1)" in text
    assert "First note. Second note." in text and "The trial" in text
    for heading in ("auc_indistinguishable", "auc_unrealistic", "Caveats", "Failed and skipped"):
        assert heading in text
    assert "None: every method has a result" in words(trial_report(*make_tables()))


def test_what_was_never_run_and_what_gave_no_number_are_failures_too():
    table, _ = make_tables()
    frame = table.to_pandas()
    frame.loc[(frame.dataset == "set_01") & (frame.method == "method_1"), "auc"] = None
    frame = frame[~((frame.dataset == "set_02") & (frame.method == "method_3") & (frame.seed == 0))]
    text = words(trial_report(pa.Table.from_pandas(frame)))
    assert "method_1 no value – set_01 (0, 1, 2)" in text
    assert "method_3 absent – set_02 (0)" in text
    assert "set_01 : no result of method_1" in text


def test_a_value_beside_a_failure_is_no_result():
    table, _ = make_tables()
    frame = table.to_pandas()
    frame.loc[(frame.dataset == "set_04") & (frame.method == "method_0"), "status"] = "failed"
    rows = summary(pa.Table.from_pandas(frame))
    assert rows == summary(pa.Table.from_pandas(frame[frame.dataset != "set_04"]))


def test_a_pairwise_measure_has_its_own_sets():
    table, _ = make_tables()
    frame = table.to_pandas()
    frame.loc[frame.dataset < "set_05", "auc_indistinguishable"] = None
    table = pa.Table.from_pandas(frame)
    text = words(trial_report(table))
    assert "over 7 data sets on which every method has it" in text
    assert "over 12 data sets on which every method has it" in text
    later = table.filter(pa.array([name >= "set_05" for name in table["dataset"].to_pylist()]))
    assert summary(table, "auc_indistinguishable") == summary(later, "auc_indistinguishable")


def test_hostile_text_stays_text():
    names = HOSTILE[:-1]
    table, costs = make_tables(methods=len(names), names=[name.replace("\ud800", "") for name in names])
    frame = table.to_pandas()
    frame["dataset"] = [f"<b>{name}" for name in frame.dataset]
    frame.loc[frame.dataset == "<b>set_01", ["status", "reason"]] = ["failed", HOSTILE[0] + HOSTILE[3]]
    frame = frame.rename(columns={"auc": "<i>", "auc_unrealistic": "<i>_unrealistic"})
    page = trial_report(pa.Table.from_pandas(frame), costs, measure="<i>", title=HOSTILE[1], notes=HOSTILE)
    tags = Tags(page)
    assert not {"script", "img", "iframe", "b", "i"} & set(tags.names)
    assert tags.names.count("style") == 1
    assert not [name for _, attributes in tags.attributes for name in attributes if name.startswith("on")]
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", page)
    page.encode("utf-8")


def test_the_page_is_self_contained():
    page = trial_report(*make_tables(without=FAILURES))
    tags = Tags(page)
    policy = next(attributes["content"] for tag, attributes in tags.attributes if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
    assert "http://" not in page and "https://" not in page and "url(" not in page and "@import" not in page
    links = [attributes.get("href", "") + attributes.get("src", "") for _, attributes in tags.attributes]
    assert all(link.startswith(("#", "data:")) for link in links if link)
    targets = {attributes["id"] for _, attributes in tags.attributes if "id" in attributes}
    assert {attributes["href"][1:] for tag, attributes in tags.attributes if tag == "a"} <= targets
    assert not [attributes for _, attributes in tags.attributes if "style" in attributes]


def test_the_same_tables_give_the_same_page():
    assert trial_report(*make_tables()) == trial_report(*make_tables())


@pytest.mark.parametrize("case", ["one method", "one set", "one seed", "all equal", "nothing", "many", "free", "large"])
def test_edges(case):
    shape = {
        "one method": {"methods": 1}, "one set": {"datasets": 1}, "one seed": {"seeds": 1},
        "many": {"methods": 40, "datasets": 3},
    }.get(case, {})  # fmt: skip
    table, costs = make_tables(**shape)
    frame, cost = table.to_pandas(), costs.to_pandas()
    if case == "all equal":
        frame["auc"] = 0.5
    elif case == "nothing":
        frame[["auc", "auc_indistinguishable", "auc_unrealistic"]] = None
    elif case == "free":
        cost["seconds"] = 0.0
    elif case == "large":
        frame["auc"] *= -1e9
    page = trial_report(pa.Table.from_pandas(frame), pa.Table.from_pandas(cost))
    text = words(page)
    drawn = "".join(re.findall(r'(?:d|x|y|x1|x2|y1|y2|cx|cy|width|height|viewBox)="([^"]*)"', page))
    assert "nan" not in drawn.lower() and "inf" not in drawn.lower() and "nan" not in text.lower()
    says = {
        "one method": "there is nothing to compare it with",
        "one set": "With 1 data set no signed-rank test can reach 0.05",
        "all equal": "share the best average rank, 3.00 among 5 methods",
        "nothing": "Nothing can be ranked",
        "many": "among 40 methods",
        "free": "seconds",
        "large": "−",
    }
    assert says.get(case, "") in text
    assert ("±" in page.replace("± over seeds", "")) == (case not in ("one seed", "nothing"))


def test_a_hundred_sets_make_a_small_file():
    page = trial_report(*make_tables(datasets=100, methods=20, seeds=2))
    assert len(page.encode()) < 1_000_000


def test_wrong_input_is_refused_by_name():
    table, costs = make_tables(datasets=2, methods=2)
    frame = table.to_pandas()
    cases = [
        (lambda: summary(frame), "table is DataFrame: give a pyarrow.Table"),
        (lambda: summary(table.drop_columns(["reason"])), "table lacks the columns reason"),
        (lambda: summary(table, "f1"), "table lacks the column f1"),
        (lambda: summary(table, "method"), "column 'method' holds"),
        (lambda: summary(table.slice(0, 0)), "table has no rows"),
        (lambda: summary(pa.concat_tables([table, table])), "'method_0') twice"),
        (lambda: summary(pa.Table.from_pandas(frame.assign(status="ok"))), "unknown statuses ['ok']"),
        (lambda: summary(pa.Table.from_pandas(frame.assign(auc=np.inf))), "column 'auc' holds infinity"),
        (lambda: summary(pa.Table.from_pandas(frame.assign(method=None))), "column 'method' holds nulls"),
        (lambda: trial_report(table, costs.drop_columns(["seconds"])), "costs lacks the columns seconds"),
        (lambda: trial_report(table, notes="one"), "notes is one text"),
        (lambda: critical_difference_svg(["a"], [1.0], 1.0), "ranks has 1 elements"),
        (lambda: critical_difference_svg(["a", "b"], [1.0, np.nan], 1.0), "ranks holds NaN"),
        (lambda: critical_difference_svg(["a", "b"], [1.0, 2.0], -1.0), "difference=-1.0"),
        (lambda: heat_map_svg(["a"], ["b"], [[1.0, 2.0]]), "values has shape (1, 2), expected (1, 1)"),
        (lambda: heat_map_svg(["a"], ["b"], [["x"]]), "values cannot be read"),
    ]
    for call, says in cases:
        with pytest.raises(InputError) as refusal:
            call()
        assert says in str(refusal.value)


# --- the figures --------------------------------------------------------------------------------------------

NAMES = [f"method number {k}" for k in range(20)]


def rank_figure(k=20, difference=4.0, seed=0):
    values = np.sort(np.random.default_rng(seed).uniform(1, k, k))
    return values, critical_difference_svg(NAMES[:k], values, difference)


def test_figures_are_files_of_their_own():
    values = np.random.default_rng(0).random((4, 20))
    for figure in (rank_figure()[1], heat_map_svg(HOSTILE[:4], NAMES, values)):
        root = ElementTree.fromstring(figure)
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("role") == "img" and root.get("aria-label")
        style = root.find("{http://www.w3.org/2000/svg}style").text
        assert "prefers-color-scheme: dark" in style and "font:" in style and "url(" not in style
        assert set(re.findall(r"var\((--[\w-]+)\)", style)) <= set(re.findall(r"(--[\w-]+):", style))
        assert set(re.findall("https?://[^\"']*", figure)) == {"http://www.w3.org/2000/svg"}
        assert "script" not in {element.tag.rpartition("}")[2] for element in root.iter()}


def test_a_rank_figure_shows_each_method_at_its_rank():
    values, figure = rank_figure()
    root = ElementTree.fromstring(figure)
    dots = [element for element in root.iter() if element.tag.endswith("circle")]
    across, down = (np.array([float(dot.get(side)) for dot in dots]) for side in ("cx", "cy"))
    slope, start = np.polyfit(values, across, 1)
    np.testing.assert_allclose(across, start + slope * values, atol=0.11)
    assert (np.diff(down) > 12).all()
    texts = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("text")]
    for name, value in zip(NAMES, values):
        assert f"{name}{value:.2f}" in texts
    assert "critical difference 4.00" in texts


@pytest.mark.parametrize("difference", [0.0, 1.3, 4.0, 100.0])
def test_bars_reach_over_what_is_not_told_apart(difference):
    values, figure = rank_figure(difference=difference)
    root = ElementTree.fromstring(figure)
    dots = np.array([float(element.get("cx")) for element in root.iter() if element.tag.endswith("circle")])
    bars = [element for element in root.iter() if element.get("class") == "bar"]
    joined = np.zeros((20, 20), dtype=bool)
    for bar in bars:
        inside = (dots > float(bar.get("x1"))) & (dots < float(bar.get("x2")))
        joined |= inside[:, None] & inside
    near = np.abs(values[:, None] - values) < difference
    np.testing.assert_array_equal(joined | np.eye(20, dtype=bool), near | np.eye(20, dtype=bool))
    by_level = {}
    for bar in bars:
        by_level.setdefault(bar.get("y1"), []).append((float(bar.get("x1")), float(bar.get("x2"))))
    for level in by_level.values():
        level.sort()
        assert all(first[1] < second[0] for first, second in itertools.pairwise(level))


def test_a_heat_map_shows_every_value_and_marks_the_best():
    values = np.array([[0.5, 0.91, np.nan], [0.7, 0.7, 0.1], [np.nan] * 3])
    root = ElementTree.fromstring(heat_map_svg(["x", "y", "z"], ["a", "b", "c"], values))
    cells = [element for element in root.iter() if (element.get("class") or "").startswith("cell")]
    found = [(cell.get("class").split()[1:], "".join(cell.itertext())) for cell in cells]
    assert [text for _, text in found[:9]] == ["0.50", "0.91", "–", "0.70", "0.70", "0.10", "–", "–", "–"]
    assert [place for place, (css, _) in enumerate(found[:9]) if "best" in css] == [1, 3, 4]
    steps = [int(css[0][1]) for css, text in found[:9] if text != "–"]
    assert steps[1] == 7 and steps[4] == 0 and 0 < steps[0] < steps[2] == steps[3] < 7
    large = heat_map_svg(["x"], ["a", "b"], [[12345.6, -3.0]])
    assert "12,346" in large and "−3.00" in large


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize(("theme", "grows"), [(0, -1), (1, 1)])
def test_the_colours_of_the_heat_map_can_be_read_and_ordered(theme, grows):
    figure = heat_map_svg(["x"], ["a"], [[1.0]])
    ramp = [luminance(re.findall(rf"--q{step}: (#\w+)", figure)[theme]) for step in range(8)]
    ink = {name: luminance(re.findall(rf"--{name}: (#\w+)", figure)[theme]) for name in ("low", "high")}
    assert (np.sign(np.diff(ramp)) == grows).all()  # told apart by lightness alone
    for step, ground in enumerate(ramp):
        text = ink[re.search(rf"\.q{step} text {{ fill: var\(--(\w+)\)", figure).group(1)]
        dark, light = sorted((ground, text))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


# --- in a browser -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["plain", "hostile", "large"])
def written(request, tmp_path_factory):
    hostile = [name.replace("\ud800", "") for name in HOSTILE[:-1]]
    make = {
        "plain": {"without": FAILURES},
        "hostile": {"methods": len(hostile), "names": hostile},
        "large": {"methods": 20, "datasets": 40, "names": [f"{name}_and_more_{'x' * 12}" for name in NAMES]},
    }[request.param]
    path = tmp_path_factory.mktemp("trial") / f"{request.param}.html"
    title = "".join(hostile) if request.param == "hostile" else "The trial"
    path.write_text(trial_report(*make_tables(**make), title=title), encoding="utf-8")
    return path


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_in_a_browser(browser, written, width, theme):
    page, requests, complaints = visit(browser, written, width=width, theme=theme)
    try:
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert requests == [written.as_uri()] and complaints == []
        assert page.evaluate("[...document.querySelectorAll('svg')].every(svg => !!svg.ariaLabel)")
        assert page.locator("svg[role=img]").count() == 3
        # What fits the page stays on it and can be read; the heat map scrolls in its box at its own size.
        sizes = page.evaluate(
            "[...document.querySelectorAll('svg.fluid')].map(svg => parseFloat(getComputedStyle("
            "svg.querySelector('text')).fontSize) * svg.getBoundingClientRect().width / 400)"
        )
        assert len(sizes) == 2 and min(sizes) >= 9.5
        edges = page.evaluate(
            "[...document.querySelectorAll('svg.fluid text')].map(text => text.getBoundingClientRect())"
            ".map(box => [box.left, box.right])"
        )
        assert min(left for left, _ in edges) >= -1 and max(right for _, right in edges) <= width + 1
        grounds = page.evaluate(
            "['.q0 rect', '.q7 rect'].map(css => getComputedStyle(document.querySelector('.trial ' + css)).fill)"
        )
        low, high = (sum(map(int, re.findall(r"\d+", ground))) for ground in grounds)
        assert (low > high) == (theme == "light")
    finally:
        page.close()


@pytest.mark.browser
def test_names_of_methods_cross_no_line(browser, tmp_path):
    path = tmp_path / "ranks.svg"
    path.write_text(rank_figure(difference=3.0)[1], encoding="utf-8")
    page, _, complaints = visit(browser, path, width=700, theme="light")
    try:
        assert complaints == []
        boxes, stems = page.evaluate(
            "['.trial text', '.trial .stem'].map(css => [...document.querySelectorAll(css)]"
            ".map(one => one.getBoundingClientRect()).map(box => [box.left, box.right, box.top, box.bottom]))"
        )
        labels = boxes[-20:]
        for left, right, top, bottom in labels:
            assert left >= 0
            middle = (top + bottom) / 2
            assert not [stem for stem in stems if left < stem[0] < right and stem[2] < middle < stem[3]]
    finally:
        page.close()
