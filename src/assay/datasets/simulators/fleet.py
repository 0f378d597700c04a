"""Computing nodes under load, and two wrong frequency governors that no single sensor gives away.

Every node has a load u (jobs by day, idle by night), a share m of it that waits for memory, and a governor that turns
the demand d into a frequency f between the node's lowest and highest; F is the distribution of the node's demands while
it is busy, so that all frequencies are equally frequent:

    d = u (1 - β m),   healthy: f = f_low + (f_high - f_low) F(d),
    ``"powersave"``: in the lower half, f = f_low + (f_high - f_low) F(d) / 2,
    ``"performance"``: in the upper half, f = f_low + (f_high - f_low) (1 + F(d)) / 2.

Power follows u f², temperature is power through a low-pass of half an hour, fans follow temperature, instructions per
cycle fall with m, voltage rises with f. Every sensor has a gain, an offset and noise of its own, and every node its own
gains, f_low, f_high and β. So a wrong governor changes what belongs to what, and all frequencies stay healthy ones: a
busy node may be slow (it waits for memory) and a calm one fast. A day under each together show every frequency as often
as healthy days do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from assay.core.random import as_generator
from assay.core.validation import Bools, Floats, Ints, check_number

KINDS = ("powersave", "performance")
#: Seconds of a row, rows of a day, and the low-pass of the temperature in rows.
EVERY, DAY, THERMAL = 300, 288, 6
#: Hours in which a node works.
WORK = (7, 21)
#: Least visible change of the frequency, as a share of the node's span.
VISIBLE = 0.1
#: Noise of a sensor, as a share of its signal's usual range.
NOISE = 0.02
# fmt: off
#: What each sensor shows, in the order in which they come: any number of the first is a small node.
SENSORS = [
    "util_0", "freq_0", "power_core", "temp_core_0", "ipc_0", "fan_0", "util_1", "bandwidth", "temp_inlet",
    "volt_12", "freq_1", "volt_core", "temp_core_1", "power_dram", "fan_1", "network_in", "util_2", "switches",
    "power_total", "volt_3", "temp_core_2", "ipc_1", "fan_2", "util_3", "disk_read", "temp_memory", "freq_2",
    "interrupts", "temp_vrm", "network_out", "fan_3", "temp_core_3", "disk_write", "faults", "freq_3",
    "memory_used", "volt_5", "temp_board", "volt_battery", "power_fans",
]
# fmt: on
#: Sensors that the frequency drives directly.
TIED = ("freq", "power_core", "power_total", "volt_core")


class FleetTelemetry(NamedTuple):
    """Telemetry of some nodes, one after another.

    Attributes
    ----------
    node : array of str of shape (n,)
        ``"node_00"``, ...
    time : array of datetime64 of shape (n,)
        Rising within a node, one row every five minutes.
    values : array of shape (n, C)
        Measurements.
    names : list of str
        Names of the sensors; those that begin with ``util`` are per cent, and tell idle rows from busy ones.
    y : array of int of shape (n,)
        1 where a wrong governor moves the frequency by a tenth of the node's span or more, -1 where it is at work but
        moves it by less (it wants what the healthy one does, or the node is idle), else 0.
    kind : array of str of shape (n,)
        The governor at work: ``"healthy"``, ``"powersave"`` or ``"performance"``.
    idle : array of bool of shape (n,)
        Where the node has no load.
    test : array of bool of shape (n,)
        The later part, which all anomalies are in.
    tied : array of bool of shape (C,)
        Sensors that the frequency drives directly.
    """

    node: npt.NDArray[np.str_]
    time: npt.NDArray[np.datetime64]
    values: Floats
    names: list[str]
    y: Ints
    kind: npt.NDArray[np.str_]
    idle: Bools
    test: Bools
    tied: Bools

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return node, ts and the sensors by name: what the dataframe of any library can be made of."""
        return {"node": self.node, "ts": self.time, **dict(zip(self.names, self.values.T))}


def fleet(
    n_nodes: int = 8, n_days: int = 60, n_sensors: int = 40, test_share: float = 0.4, random_state: Any = None
) -> FleetTelemetry:
    """Simulate a fleet.

    Parameters
    ----------
    n_nodes : int, default 8
        Nodes.
    n_days : int, default 60
        Days, of 288 rows each.
    n_sensors : int, default 40
        Sensors of a node, 6 to 40.
    test_share : float, default 0.4
        The later part of the days, in which one is healthy, one under ``"powersave"``, one healthy and one under
        ``"performance"``, and so on.
    random_state : None, int or numpy.random.Generator
        Seed.

    Returns
    -------
    FleetTelemetry
        All rows of all nodes.

    Examples
    --------
    >>> from assay.datasets.simulators.fleet import fleet
    >>> drawn = fleet(n_nodes=2, n_days=10, n_sensors=6, random_state=0)
    >>> drawn.values.shape, drawn.names[:3], drawn.tied.tolist()
    ((5760, 6), ['util_0', 'freq_0', 'power_core'], [False, True, True, False, False, False])
    """
    check_number(n_nodes, "n_nodes", low=1, integer=True)
    check_number(n_days, "n_days", low=1, integer=True)
    check_number(n_sensors, "n_sensors", low=6, high=len(SENSORS), integer=True)
    check_number(test_share, "test_share", low=0.0, high=1.0)
    rng = as_generator(random_state)
    names = SENSORS[:n_sensors]
    day = np.arange(n_days * DAY) // DAY
    since = day - (n_days - round(test_share * n_days))
    # Of four test days the second and the fourth are spoilt.
    governor = np.where((since >= 0) & (since % 4 == 1), "powersave", "healthy").astype("U11")
    governor[(since >= 0) & (since % 4 == 3)] = "performance"
    nodes = [_node(names, governor, rng) for _ in range(n_nodes)]
    kind = np.tile(governor, n_nodes)
    moved = np.concatenate([change for _, _, change in nodes])
    start = np.datetime64("2024-03-01", "ns")
    return FleetTelemetry(
        node=np.repeat([f"node_{number:02d}" for number in range(n_nodes)], len(day)),
        time=np.tile(start + np.arange(len(day)) * np.timedelta64(EVERY, "s"), n_nodes),
        values=np.concatenate([values for values, _, _ in nodes]),
        names=list(names),
        y=np.where(kind == "healthy", 0, np.where(moved >= VISIBLE, 1, -1)),
        kind=kind,
        idle=np.concatenate([idle for _, idle, _ in nodes]),
        test=np.tile(since >= 0, n_nodes),
        tied=np.array([name.startswith(TIED) for name in names]),
    )


def _node(names: list[str], governor: npt.NDArray[np.str_], rng: np.random.Generator) -> tuple[Floats, Bools, Floats]:
    """Return one node's measurements (T, C), where it is idle, and how far its frequency is from what it should be."""
    n = len(governor)
    hour = np.arange(n) % DAY / 12
    begin, end = rng.uniform(-0.5, 0.5, size=2) + WORK
    idle = (hour < begin) | (hour >= end)
    load = np.where(idle, 0.0, np.clip(_jobs(n, 0.15, 1.0, rng) + _wander(n, 0.03, rng), 0.1, 1.0))
    memory = _jobs(n, 0.0, 1.0, rng)
    traffic = np.clip(_jobs(n, 0.0, 1.0, rng) + _wander(n, 0.1, rng), 0.0, 1.2)
    room = np.sin(2 * np.pi * (hour - 9) / 24) + _wander(n, 0.5, rng)
    beta, lowest = rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.6)
    demand = load * (1 - beta * memory)
    healthy = np.where(idle, 0.0, np.searchsorted(np.sort(demand[~idle]), demand) / max(1, (~idle).sum()))
    way = np.select([governor == "powersave", governor == "performance"], [healthy / 2, (1 + healthy) / 2], healthy)
    way[idle] = 0.0
    # As a share of the node's highest.
    relative = lowest + (1 - lowest) * way
    power = 0.15 + load * relative**2
    heat = _warmed(power) + 0.05 * room
    signals = {
        "util": load,
        "freq": relative,
        "power_core": power,
        "power_total": power + 0.05 * load * memory,
        "power_dram": load * (0.2 + 0.8 * memory),
        "power_fans": np.clip(heat, 0, None) ** 2,
        "temp_core": heat,
        "temp_vrm": heat + 0.2 * power,
        "temp_memory": 0.3 * room + _warmed(load * memory),
        "temp_board": 0.3 * heat + 0.1 * room,
        "temp_inlet": room,
        "fan": np.clip(heat, 0.2, None),
        "ipc": np.where(idle, 0.1, 1 - 0.7 * memory),
        "bandwidth": load * memory,
        "volt_core": 0.7 + 0.3 * relative,
        "switches": load * (0.5 + traffic),
        "interrupts": 0.5 * load + traffic,
        "network": traffic,
        "disk": load * traffic,
        "faults": load * (1 - 0.5 * memory),
        "memory_used": 0.3 + 0.5 * memory * (load > 0),
        "volt": np.zeros(n),
    }
    values = np.empty((n, len(names)))
    for column, name in enumerate(names):
        signal = signals[max((kind for kind in signals if name.startswith(kind)), key=len)]
        spread = np.ptp(signal) if np.ptp(signal) > 0 else 1.0
        noisy = signal + rng.normal(scale=NOISE * spread, size=n)
        # Utilisation is in per cent; an idle node shows nearly nothing.
        gain, offset = (100.0, 0.0) if name.startswith("util") else (rng.lognormal(3, 0.5), rng.uniform(0, 50))
        values[:, column] = offset + gain * noisy
        if name.startswith("util"):
            values[:, column] = np.clip(np.where(idle, rng.uniform(0, 1, size=n), values[:, column]), 0, 100)
    return values, idle, np.abs(way - healthy)


def _warmed(power: Floats) -> Floats:
    """Return the low-pass of a power, (n,)."""
    warm: Floats = lfilter([1 / THERMAL], [1, 1 / THERMAL - 1], power)
    return warm


def _jobs(n: int, low: float, high: float, rng: np.random.Generator) -> Floats:
    """Return levels that hold for half an hour to three hours each, (n,)."""
    lengths = rng.integers(6, 37, size=n // 6 + 1)
    return np.repeat(rng.uniform(low, high, size=len(lengths)), lengths)[:n]


def _wander(n: int, scale: float, rng: np.random.Generator) -> Floats:
    """Return a slow wandering about 0 of this standard deviation, (n,)."""
    steps: Floats = lfilter([1], [1, -0.95], rng.normal(size=n))
    return scale * np.sqrt(1 - 0.95**2) * steps
