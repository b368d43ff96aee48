"""Edges of figures: intervals that end at zero, one clip a speaker, odd frame rates, what plots show."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from facetalk.errors import InputError
from facetalk.metrics import inception, motion_features
from facetalk.metrics.clip_distances import TruthFeatures
from facetalk.metrics.dynamics import _columns, _crossing, fast_energy
from facetalk.metrics.intensity import normalised_by_speaker, speech_lip_correlation
from facetalk.metrics.report import Report
from facetalk.metrics.sync import SyncExpert, _mouth
from facetalk.metrics.sync_network import SyncConfig, SyncNetworks


def test_a_frechet_distance_has_an_interval_that_never_falls_under_zero() -> None:
    rng = np.random.default_rng(0)
    truth = [rng.normal(size=(4, 2)) for _ in range(6)]
    drawn = np.random.default_rng(1).multinomial(6, [1 / 6] * 6, size=60)
    lows = []
    for seed in range(6):
        other = np.random.default_rng(10 + seed).normal(size=(6, 4, 2))
        value, limits = TruthFeatures(truth, drawn, 1.0).frechet(list(other))
        assert limits is not None and 0.0 <= limits[0] <= value <= limits[1]
        lows.append(limits[0])
    assert min(lows) == 0.0
    far = TruthFeatures(truth, drawn, 1.0).frechet([clip + 30.0 for clip in truth])
    assert far[0] == pytest.approx(1800.0, rel=0.01)
    assert far[1] is not None and 1000.0 < far[1][0] < far[0] < far[1][1]
    assert math.isnan(TruthFeatures([truth[0][:1]], drawn[:, :1], 1.0).frechet([truth[0]])[0])


def test_speakers_of_whom_one_side_is_unknown_are_left_out() -> None:
    speech, lips = [1.0, 2.0, 3.0, 5.0, 5.0], [1.0, 2.0, 3.0, 1.0, 2.0]
    speakers = ["a", "a", "a", "b", "b"]  # b speaks as loudly in both clips: no z-score
    assert np.isnan(normalised_by_speaker(speech, speakers)[3:]).all()
    np.testing.assert_allclose(normalised_by_speaker(speech, speakers)[:3], [-1, 0, 1])
    assert speech_lip_correlation(speech, lips, speakers) == pytest.approx(1.0)
    assert math.isnan(speech_lip_correlation([1.0], [1.0], ["a"]))


def test_a_figure_of_weights_that_are_not_there_is_unknown() -> None:
    weights = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(_columns(weights, ["eyeBlink_L", "jaw"], "eye"), weights[:, :1])
    missing = _columns(weights, ["jaw", "lip"], "eye")
    assert missing.shape == (3, 1) and np.isnan(missing).all()
    assert _crossing(np.array([4.0, 3.0, 1.0, 9.0])) == pytest.approx(1.5)
    assert _crossing(np.array([4.0, 3.0, 2.0])) is None
    assert math.isnan(fast_energy(np.zeros((50, 2, 3)), 1.0))


def test_frame_rates_from_1_to_1000_are_taken() -> None:
    points = np.random.default_rng(0).normal(size=(40, 68, 3)) * 0.03
    template = points[0].astype(np.float32)
    for fps, count in ((1.0, 1000), (1000.0, 1), (25.0, 40), (50.0, 20)):
        assert _mouth(points, fps, template).shape == (count, 20, 3)
    np.testing.assert_allclose(
        _mouth(points + np.array([5.0, 0.0, 0.0]), 25.0, template), _mouth(points, 25.0, template), atol=1e-5
    )  # wherever the head is
    for wrong in (0.99, 1000.1, math.nan):
        with pytest.raises(InputError, match="frame rate must lie in 1 to 1000"):
            _mouth(points, wrong, template)
    for scale in (1e-3, 100.0):
        with pytest.raises(InputError, match="head in metres"):
            _mouth(points * scale, 25.0, template)
    with pytest.raises(InputError, match="frame 3 are not finite"):
        _mouth(np.where(np.arange(40)[:, None, None] == 3, np.nan, points), 25.0, template)


def test_an_expert_begins_with_a_scale_of_ten_and_searches_both_sides() -> None:
    networks = SyncNetworks(SyncConfig(8, 8, 8))
    assert networks.log_scale.item() == pytest.approx(math.log(10.0))
    points = np.random.default_rng(0).normal(size=(90, 68, 3)) * 0.03
    sound = np.random.default_rng(1).normal(0, 0.1, 90 * 640).astype(np.float32)
    shifts, means = SyncExpert(networks, points[0].astype(np.float32)).curve((sound, 16000), points, 25.0)
    assert shifts.tolist() == list(range(-15, 16)) and np.isfinite(means).all()


def test_windows_of_motion_are_reduced_to_32_components() -> None:
    assert inception._SIZE == 299
    assert (motion_features.COMPONENTS, motion_features.WINDOW_S, motion_features.HOP_S) == (32, 1.0, 0.5)


def test_bars_stand_where_figures_are_with_their_intervals() -> None:
    pytest.importorskip("matplotlib")
    from facetalk.metrics.plot import _bars

    drawn: list[tuple[int, float, Any]] = []

    class Axes:
        def __init__(self) -> None:
            self.scales: list[str] = []

        def barh(self, place: int, value: float, **options: Any) -> None:
            drawn.append((place, value, options.get("xerr")))

        def set_xscale(self, kind: str, **_: Any) -> None:
            self.scales.append(kind)

        def set_yticks(self, places: Any, names: list[str], **_: Any) -> None:
            self.names = names

        def __getattr__(self, name: str) -> Any:
            return lambda *_, **__: None

    report = SimpleNamespace(
        rows={"truth": {"x": 2.0}, "none": {"x": math.nan}, "model": {"x": 5.0}, "rest": {"x": 1.0}},
        intervals={"truth": {"x": (1.5, 2.75)}, "rest": {"x": (1.25, 0.5)}},
    )
    axes = Axes()
    _bars(axes, report, "x", "title", wide=True, named=True)  # type: ignore[arg-type]
    assert drawn == [(0, 2.0, [[0.5], [0.75]]), (2, 5.0, None), (3, 1.0, [[0.0], [0.0]])]
    assert axes.scales == ["symlog"] and axes.names == ["truth", "none", "model", "rest"]
    _bars(axes, report, "x", "title", wide=False, named=False)  # type: ignore[arg-type]
    assert axes.scales == ["symlog"] and axes.names == [""] * 4


def test_a_plot_has_time_in_seconds_from_the_middle_of_the_first_frame(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    from facetalk.metrics.plot import plot

    curves: list[tuple[str, list[float], list[float]]] = []
    monkeypatch.setattr(
        Axes, "plot", lambda self, x, y, color, label: curves.append((label, list(x), list(y)))
    )
    monkeypatch.setattr(Axes, "legend", lambda *_, **__: None)
    report = Report({"clips": 1}, {}, {}, example={"truth": [1.0, 2.0], "model lids": [0.5]})
    plot(report, tmp_path / "p.png", fps=25.0)
    assert curves == [
        ("truth", [0.02, 0.06], [1.0, 2.0]), ("model", [], []), ("truth", [], []), ("model", [0.02], [0.5])
    ]  # fmt: skip
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
