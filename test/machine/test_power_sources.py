# SPDX-License-Identifier: Apache-2.0
"""What each power source reads from the files and outputs that it finds, good and bad."""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from power_trees import (
    JETSONS,
    LAPTOP,
    NANO,
    NVPMODEL,
    ORIN_NANO,
    TEGRASTATS,
    XAVIER_NX,
    rails_r32,
    rails_r35,
    release,
    write,
)
from stepped_clock import SteppedClock

from compact_yolo_ros.machine import power
from compact_yolo_ros.machine.power import (
    PowerReading,
    discovery,
    find_power_source,
    nvml_card,
    rapl,
)
from compact_yolo_ros.machine.power.battery import Battery
from compact_yolo_ros.machine.power.ina3221 import Ina3221
from compact_yolo_ros.machine.power.jetson import Jetson, is_jetson
from compact_yolo_ros.machine.power.jtop import Jtop
from compact_yolo_ros.machine.power.kernel import FIND_EVERY, POLICIES, Kernel
from compact_yolo_ros.machine.power.nvml import Nvml
from compact_yolo_ros.machine.power.nvpmodel import PowerMode
from compact_yolo_ros.machine.power.rapl import Rapl
from compact_yolo_ros.machine.power.source import MAX_WATTS, Part, PowerSourceInfo, Unavailable
from compact_yolo_ros.machine.power.sysfs import Tree
from compact_yolo_ros.machine.power.table import POWER_SOURCES
from compact_yolo_ros.machine.power.tegrastats import Tegrastats
from compact_yolo_ros.machine.power.tool_output import output_of
from compact_yolo_ros.support.pip import pip_line

ENERGY = "sys/class/powercap/intel-rapl:0/energy_uj"
RANGE = 262_143_328_850
"""Microjoules after which the notebook's counter starts again."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SteppedClock:
    stepped = SteppedClock()
    monkeypatch.setattr(rapl, "monotonic", stepped)
    return stepped


# Jetson


@pytest.mark.parametrize("board", JETSONS)
def test_a_jetson_shows_its_watts_mode_clocks_and_temperatures(board: str, tmp_path: Path) -> None:
    tree, source, watts, mode, gpu_mhz, hottest = JETSONS[board]
    found = find_power_source(write(tmp_path, tree))
    seen = found.read()
    assert found.name == source
    assert seen.watts == pytest.approx(watts)
    assert seen.mode == f"{mode}, schedutil governor"
    assert seen.clocks["gpu"] == pytest.approx(gpu_mhz)
    assert max(seen.temperatures.values()) == pytest.approx(hottest)
    assert seen.problems == ()


OTHER_BOARD = rails_r35("1-0040/hwmon/hwmon1", ("VDD_IN", 12000, 900), ("MOTORS", 24000, 4000))
"""The same meter, on a carrier board of a robot."""


@pytest.mark.parametrize(
    "sign",
    [
        release("R36 (release), REVISION: 4.3"),
        {"proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0"},
        {"sys/devices/soc0/family": "Tegra"},
        {"sys/devices/soc0/family": "Tegra210"},
        rails_r32("6-0040/iio:device0", ("POM_5V_IN", 2875)),
        {path: text for path, text in ORIN_NANO.items() if "ina3221" in path},
    ],
    ids=["release", "device tree", "container", "container r32", "r32 meter", "r36 meter"],
)
def test_a_jetson_is_recognised_by_any_of_its_signs(sign: dict[str, str], tmp_path: Path) -> None:
    assert is_jetson(write(tmp_path, sign))


@pytest.mark.parametrize(
    "tree",
    [
        LAPTOP,
        LAPTOP | OTHER_BOARD,
        OTHER_BOARD | {"sys/devices/soc0/family": "Freescale i.MX"},
        {"proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0"},
    ],
    ids=["notebook", "its meter", "i.MX", "Raspberry Pi"],
)
def test_other_boards_are_no_jetsons(tree: dict[str, str], tmp_path: Path) -> None:
    assert not is_jetson(write(tmp_path, tree))


def test_the_meter_of_another_board_is_not_taken_for_the_modules(tmp_path: Path) -> None:
    found = find_power_source(write(tmp_path, LAPTOP | OTHER_BOARD))
    assert found.name == find_power_source(write(tmp_path / "plain", LAPTOP)).name


def test_orins_over_currents_and_thermal_alerts_are_read(tmp_path: Path) -> None:
    seen = find_power_source(write(tmp_path, JETSONS["AGX Orin"][0])).read()
    assert seen.events == {"over-current oc1": 0, "over-current oc2": 0, "over-current oc3": 27390}
    assert seen.throttled == ("gpu-throttle-alert",)


def test_a_turning_fan_is_not_throttling(tmp_path: Path) -> None:
    assert find_power_source(write(tmp_path, ORIN_NANO)).read().throttled == ()


def test_where_no_source_shows_throttling_it_is_unknown_not_absent(tmp_path: Path) -> None:
    assert find_power_source(write(tmp_path, NANO)).read().throttled is None


def test_meters_behind_links_are_found(tmp_path: Path) -> None:
    write(tmp_path / "real", XAVIER_NX)
    driver = tmp_path / "sys/bus/i2c/drivers/ina3221x"
    driver.mkdir(parents=True)
    (driver / "7-0040").symlink_to(tmp_path / "real/sys/bus/i2c/drivers/ina3221x/7-0040")
    assert Ina3221(tmp_path).read().watts == pytest.approx(4.067)


def test_a_rail_that_vanishes_is_not_left_out_of_the_sum(tmp_path: Path) -> None:
    source = Ina3221(write(tmp_path, JETSONS["AGX Xavier"][0]))
    (tmp_path / "sys/bus/i2c/drivers/ina3221x/1-0041/iio:device1/in_power1_input").unlink()
    seen = source.read()
    assert seen.watts is None
    assert "in_power1_input: no such file or directory" in seen.problems[0]


def test_a_board_without_meters_still_shows_its_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    bare = {path: text for path, text in NANO.items() if "ina3221" not in path}
    found = find_power_source(write(tmp_path, bare))
    seen = found.read()
    assert (found.name, seen.watts) == ("none", None)
    assert seen.mode == "MAXN, schedutil governor"
    assert "INA3221: not on this board" in seen.problems


@pytest.mark.parametrize("board", TEGRASTATS)
def test_tegrastats_gives_the_modules_watts(board: str) -> None:
    line, watts = TEGRASTATS[board]
    assert Tegrastats(lambda: f"{line}\n{line}\n").read().watts == pytest.approx(watts)


@pytest.mark.parametrize("output", ["", "tegrastats: Permission denied\n", "RAM 1/2MB CPU [off]\n"])
def test_tegrastats_without_rails_is_not_used(output: str) -> None:
    with pytest.raises(Unavailable):
        Tegrastats(lambda: output)


def test_tegrastats_that_stops_answering_is_a_problem() -> None:
    answers = iter([TEGRASTATS["Nano r32"][0], ""])
    source = Tegrastats(lambda: next(answers))
    assert source.read() == PowerReading(problems=("tegrastats: it did not print POM_5V_IN",))


@pytest.mark.parametrize("answer", NVPMODEL)
def test_nvpmodel_is_called_where_its_files_are_missing(answer: str, tmp_path: Path) -> None:
    calls: list[str] = []
    mode = PowerMode(tmp_path, lambda: calls.append("once") or answer)
    assert [mode(Tree(tmp_path)), mode(Tree(tmp_path))] == [NVPMODEL[answer]] * 2
    assert calls == ["once"]


def test_a_mode_without_a_name_is_shown_by_its_number(tmp_path: Path) -> None:
    write(tmp_path, {"var/lib/nvpmodel/status": "pmode:0008"})
    assert PowerMode(tmp_path)(Tree(tmp_path)) == "mode 8"


def test_a_mode_that_changes_is_followed(tmp_path: Path) -> None:
    source = Jetson(write(tmp_path, ORIN_NANO))
    assert source.read().mode == "MAXN_SUPER"
    write(tmp_path, {"var/lib/nvpmodel/status": "pmode:0003"})
    assert source.read().mode == "7W"


class JtopDouble:
    """The documented interface of jetson-stats 4: start, ok, power, nvpmodel, close."""

    alive = True
    milliwatts: Any = 5012

    def __init__(self, interval: float) -> None:
        self.nvpmodel = SimpleNamespace(name="25W")
        self.power = {"rail": {}, "tot": {"power": self.milliwatts, "avg": 5000}}
        self.closed = False

    def start(self) -> None:
        if not self.alive:
            raise RuntimeError("The jetson_stats.service is not active")

    def ok(self, spin: bool = False) -> bool:
        return not self.closed

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def jtop(monkeypatch: pytest.MonkeyPatch) -> type[JtopDouble]:
    class Double(JtopDouble):
        pass

    monkeypatch.setitem(sys.modules, "jtop", ModuleType("jtop"))
    monkeypatch.setattr(sys.modules["jtop"], "jtop", Double, raising=False)
    return Double


def test_jetson_stats_is_used_where_its_service_runs(tmp_path: Path, jtop: Any) -> None:
    write(tmp_path, {**ORIN_NANO, "run/jtop.sock": ""})
    found = find_power_source(tmp_path)
    assert found.name == "jetson-stats (module)"
    assert found.read().watts == pytest.approx(5.012)


def test_jetson_stats_that_refuses_gives_way_to_the_meters(tmp_path: Path, jtop: Any) -> None:
    jtop.alive = False
    write(tmp_path, {**ORIN_NANO, "run/jtop.sock": ""})
    assert find_power_source(tmp_path).name == "INA3221 (VDD_IN)"


@pytest.mark.parametrize("milliwatts", [None, "n/a", -5, 1e9, float("nan")])
def test_nonsense_of_jetson_stats_is_a_problem(tmp_path: Path, jtop: Any, milliwatts: Any) -> None:
    jtop.milliwatts = milliwatts
    seen = Jtop(write(tmp_path, {"run/jtop.sock": ""})).read()
    assert seen.watts is None
    assert seen.problems[0].startswith("jetson-stats: ")


# Computers


def test_rapl_gives_mean_watts_of_the_package(tmp_path: Path, clock: SteppedClock) -> None:
    write(tmp_path, {**LAPTOP, ENERGY: "1000000"})
    found = find_power_source(tmp_path)
    assert found.name == "RAPL (processor package)"
    clock.now += 2
    write(tmp_path, {ENERGY: "31000000"})
    assert found.read().watts == pytest.approx(15)


@given(
    left=st.integers(1, 1_000_000_000),  # to the end of the counter
    used=st.integers(1_000_000, 1_000_000_000),
    seconds=st.floats(0.5, 5),
)
@settings(max_examples=50)
def test_rapls_counter_may_wrap_around(left: int, used: int, seconds: float) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        stepped = SteppedClock()
        patch.setattr(rapl, "monotonic", stepped)
        root = write(Path(folder), {**LAPTOP, ENERGY: str(RANGE - left)})
        source = Rapl(root)
        stepped.now += seconds
        write(root, {ENERGY: str((RANGE - left + used) % RANGE)})
        assert source.read().watts == pytest.approx(used * 1e-6 / seconds, rel=1e-4)


def test_a_counter_that_stands_still_is_a_problem(tmp_path: Path, clock: SteppedClock) -> None:
    source = Rapl(write(tmp_path, LAPTOP))
    clock.now += 1
    assert source.read() == PowerReading(problems=("RAPL: 0 W makes no sense",))


def test_rapl_continues_after_a_failed_read(tmp_path: Path, clock: SteppedClock) -> None:
    source = Rapl(write(tmp_path, {**LAPTOP, ENERGY: "0"}))
    for text, watts in (("broken", None), ("10000000", None), ("15000000", 5.0)):
        clock.now += 1
        write(tmp_path, {ENERGY: text})
        assert source.read().watts == watts


def test_without_permission_for_rapl_the_battery_is_used_and_the_reason_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, LAPTOP)
    allowed = Path.read_text

    def read_text(path: Path, *args: Any, **options: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return allowed(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    found = find_power_source(tmp_path)
    seen = found.read()
    assert found.name == "battery (whole machine)"
    assert seen.watts == pytest.approx(12.34)
    assert seen.problems == (f"RAPL: /{ENERGY}: permission denied",)


def test_profile_governor_clock_and_throttle_counts_of_a_notebook(tmp_path: Path) -> None:
    seen = Kernel(write(tmp_path, LAPTOP)).read()
    assert seen.mode == "balanced, powersave governor"
    assert seen.clocks == {"cpu": 2000}
    assert seen.temperatures == {"acpitz": 47, "x86_pkg_temp": 63}
    assert seen.events == {"cpu core thermal": 5, "cpu package thermal": 9}


def test_each_core_that_is_too_hot_counts(tmp_path: Path) -> None:
    """Not only the one that was most often too hot since the start."""
    kernel = Kernel(write(tmp_path, LAPTOP))
    assert kernel.read().events["cpu core thermal"] == 5
    write(tmp_path, {"sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "4"})
    events = {"cpu core thermal": 6, "cpu package thermal": 9}
    assert kernel.read().events == events
    core = tmp_path / "sys/devices/system/cpu/cpu1"
    core.rename(tmp_path / "switched off")
    assert kernel.read().events == events
    (tmp_path / "switched off").rename(core)
    assert kernel.read().events == events


def test_a_clock_that_is_switched_on_or_off_is_noticed_after_some_readings(tmp_path: Path) -> None:
    kernel = Kernel(write(tmp_path, LAPTOP))
    assert kernel.read().clocks == {"cpu": 2000}
    (clock,) = {path.name for path in tmp_path.glob(f"{POLICIES}/scaling_cur_freq")}
    for path in tmp_path.glob(f"{POLICIES}/{clock}"):
        path.unlink()
    assert kernel.read().clocks == {}  # at once: it cannot be read
    extra = next(tmp_path.glob(POLICIES)).with_name("policy99")
    extra.mkdir()
    (extra / clock).write_text("3000000")
    seen = [kernel.read().clocks for _ in range(FIND_EVERY)]
    assert seen[0] == {} and seen[-1] == {"cpu": 3000}


BATTERY = "sys/class/power_supply/BAT0"


@pytest.mark.parametrize(
    ("files", "watts"),
    [
        ({}, 12.34),
        ({"power_now": "-12340000"}, 12.34),
        ({"power_now": None, "voltage_now": "12000000", "current_now": "500000"}, 6.0),
        ({"power_now": None, "voltage_now": "12000000", "current_now": "-500000"}, 6.0),
        ({"power_now": None}, None),
        ({"power_now": "lots"}, None),
        ({"power_now": "0"}, None),
        ({"status": "Charging"}, None),
        ({"status": None}, None),
    ],
)
def test_a_battery_gives_watts_only_while_it_discharges(
    files: dict[str, str | None], watts: float | None, tmp_path: Path
) -> None:
    source = Battery(write(tmp_path, LAPTOP))
    for name, text in files.items():
        if text is None:
            (tmp_path / BATTERY / name).unlink()
        else:
            write(tmp_path, {f"{BATTERY}/{name}": text})
    seen = source.read()
    assert seen.watts == (watts if watts is None else pytest.approx(watts))
    assert bool(seen.problems) == (watts is None)


def test_a_battery_may_be_exchanged_while_the_others_go_on(tmp_path: Path) -> None:
    source = Battery(write(tmp_path, LAPTOP))
    other = {"type": "Battery", "status": "Discharging", "power_now": "5000000"}
    write(tmp_path / "sys/class/power_supply/BAT1", other)
    assert source.read().watts == pytest.approx(17.34)
    shutil.rmtree(tmp_path / BATTERY)
    assert source.read() == PowerReading(watts=5.0)


class NvmlDouble(ModuleType):
    """nvidia-ml-py's functions that are used, on two cards, the second with an instance of MIG."""

    class NVMLError(Exception):
        pass

    cards = (("GPU-1a2b", "00000000:3B:00.0"), ("GPU-1aff", "00000000:AF:00.0"))
    milliwatts = 61_500
    reasons = 0x44

    def __init__(self) -> None:
        super().__init__("pynvml")

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    nvmlShutdown = nvmlInit

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        if not 0 <= index < len(self.cards):
            raise self.NVMLError("Invalid Argument")
        return f"card {index}"

    def nvmlDeviceGetHandleByPciBusId(self, bus: str) -> str:  # noqa: N802
        (found,) = (n for n, (_, own) in enumerate(self.cards) if own.endswith(bus.upper()))
        return f"card {found}"

    def nvmlDeviceGetUUID(self, card: str) -> str:  # noqa: N802
        return self.cards[int(card.removeprefix("card "))][0]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != "MIG-77aa":
            raise self.NVMLError("Not Found")
        return "instance"

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, instance: str) -> str:  # noqa: N802
        assert instance == "instance"
        return "card 1"

    def nvmlDeviceGetPerformanceState(self, card: str) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetPowerUsage(self, card: str) -> int:  # noqa: N802
        return self.milliwatts

    def nvmlDeviceGetClockInfo(self, card: str, kind: int) -> int:  # noqa: N802
        return {1: 1980}[kind]

    def nvmlDeviceGetTemperature(self, card: str, sensor: int) -> int:  # noqa: N802
        return {0: 71}[sensor]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, card: str) -> int:  # noqa: N802
        raise self.NVMLError("Not Supported")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> NvmlDouble:
    double = NvmlDouble()
    monkeypatch.setitem(sys.modules, "pynvml", double)
    monkeypatch.setattr(nvml_card, "opened_gpu", lambda: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return double


def test_nvml_reads_what_it_can(nvml: NvmlDouble) -> None:
    seen = Nvml().read()
    assert (seen.mode, seen.watts) == ("GPU P2", pytest.approx(61.5))
    assert (seen.clocks, seen.temperatures) == ({"gpu": 1980}, {"gpu": 71})
    assert seen.throttled is None
    assert seen.problems == ("nvmlDeviceGetCurrentClocksThrottleReasons: Not Supported",)


@pytest.mark.parametrize(
    ("visible", "card"),
    [
        (None, "card 0"),
        ("0,1", "card 0"),
        ("1", "card 1"),
        (" 1 , 0", "card 1"),
        ("GPU-1aff", "card 1"),
        ("GPU-1af", "card 1"),  # CUDA takes the beginning, as far as it is unique
        ("GPU-1a2,GPU-1af", "card 0"),
        ("MIG-77aa", "card 1"),
        ("MIG-GPU-1aff/2/0", "card 1"),  # of drivers before 470
    ],
)
def test_nvml_reads_the_card_that_cuda_is_given(
    nvml: NvmlDouble, monkeypatch: pytest.MonkeyPatch, visible: str | None, card: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    asked = []
    nvml.nvmlDeviceGetPowerUsage = lambda card: asked.append(card) or 320_000
    assert Nvml().read().watts == pytest.approx(320)
    assert asked == [card]


@pytest.mark.parametrize("visible", ["", "-1", "7", "GPU-99", "GPU-1a", "MIG-99", "nonsense"])
def test_no_card_stands_for_one_that_cuda_does_not_have(
    nvml: NvmlDouble, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(Unavailable, match=f"CUDA_VISIBLE_DEVICES is '{visible}': .*no card"):
        Nvml()


@pytest.mark.parametrize(
    ("bus", "card"),
    [("0000:af:00.0", "card 1"), ("0000:3B:00.0", "card 0"), ("", "card 0")],
)
def test_nvml_reads_the_card_that_runs_the_network(
    nvml: NvmlDouble, monkeypatch: pytest.MonkeyPatch, bus: str, card: str
) -> None:
    """CUDA counts the fastest card first, NVML by the bus."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(nvml_card, "opened_gpu", lambda: SimpleNamespace(bus_id=bus))
    asked = []
    nvml.nvmlDeviceGetTemperature = lambda card, sensor: asked.append(card) or 50
    Nvml().read()
    assert asked == [card]


@pytest.mark.parametrize("value", [-1, 2**32 - 1])
def test_nonsense_of_nvml_is_left_out(nvml: NvmlDouble, value: int) -> None:
    nvml.nvmlDeviceGetPowerUsage = lambda card: value
    nvml.nvmlDeviceGetClockInfo = lambda card, kind: value
    nvml.nvmlDeviceGetTemperature = lambda card, sensor: value - 50
    seen = Nvml().read()
    assert (seen.watts, seen.clocks, seen.temperatures) == (None, {}, {})
    assert "W makes no sense" in seen.problems[0]


def test_nvml_names_what_holds_the_clock_down(nvml: NvmlDouble) -> None:
    nvml.nvmlDeviceGetCurrentClocksThrottleReasons = lambda card: 0x44
    assert Nvml().read().throttled == ("GPU power cap", "GPU thermal slowdown (hardware)")


def test_on_a_graphics_card_its_watts_and_the_processors_are_added(
    tmp_path: Path, clock: SteppedClock, nvml: NvmlDouble
) -> None:
    found = find_power_source(write(tmp_path, {**LAPTOP, ENERGY: "0"}), on_gpu=True)
    clock.now += 1
    write(tmp_path, {ENERGY: "8500000"})
    assert found.name == "NVML (graphics card) + RAPL (processor package)"
    assert found.read().watts == pytest.approx(70)
    clock.now += 1
    write(tmp_path, {ENERGY: "broken"})
    assert found.read().watts is None


def test_on_the_cpu_the_graphics_card_is_left_out(tmp_path: Path, nvml: NvmlDouble) -> None:
    assert find_power_source(write(tmp_path, LAPTOP)).name == "RAPL (processor package)"


def test_without_nvml_the_processor_does_not_stand_for_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = find_power_source(write(tmp_path, LAPTOP), on_gpu=True)
    assert found.name == "battery (whole machine)"
    assert f"NVML: {pip_line('nvidia-ml-py')}" in found.read().problems


def test_the_names_of_nvml_are_real() -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    used = [name for name in vars(NvmlDouble) if name.lower().startswith("nvml")]
    assert [name for name in used if not hasattr(pynvml, name)] == []
    assert pynvml.NVML_CLOCK_SM == 1
    assert pynvml.NVML_TEMPERATURE_GPU == 0
    assert pynvml.nvmlClocksThrottleReasonSwPowerCap == 0x04
    assert pynvml.nvmlClocksThrottleReasonHwSlowdown == 0x08
    assert pynvml.nvmlClocksThrottleReasonSwThermalSlowdown == 0x20
    assert pynvml.nvmlClocksThrottleReasonHwThermalSlowdown == 0x40
    assert pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown == 0x80


# The table


def test_every_file_with_a_row_is_in_the_table() -> None:
    modules = [
        import_module(module.name) for module in iter_modules(power.__path__, f"{power.__name__}.")
    ]
    rows = [module.INFO for module in modules if hasattr(module, "INFO")]
    assert sorted(info.name for info in POWER_SOURCES) == sorted(info.name for info in rows)
    assert len({info.name for info in POWER_SOURCES}) == len(POWER_SOURCES)


def test_another_row_is_used_where_the_rows_before_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Socket:
        name = "socket meter"

        def read(self) -> PowerReading:
            return PowerReading(watts=42.0)

        def close(self) -> None:
            pass

    row = PowerSourceInfo("socket", Part.MACHINE, lambda root: Socket(), "a meter at the socket")
    monkeypatch.setattr(discovery, "POWER_SOURCES", (*POWER_SOURCES, row))
    found = find_power_source(tmp_path)
    assert (found.name, found.read().watts) == ("socket meter", 42.0)
    assert find_power_source(write(tmp_path, LAPTOP)).name == "RAPL (processor package)"


# Anything


ABSURD = st.one_of(
    st.sampled_from(["", "-1", "nan", "inf", "-inf", "1e300", "99999999999", "N/A", "0x10", "1 2"]),
    st.integers(-(10**20), 10**20).map(str),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
TREES = {"laptop": LAPTOP, **{board: row[0] for board, row in JETSONS.items()}}


@pytest.mark.parametrize("name", TREES)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_absurd_files_never_break_a_source(name: str, data: st.DataObject) -> None:
    tree = TREES[name]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", folder)  # tools that are installed would be called
        root = write(Path(folder), tree)
        found = find_power_source(root)
        for path in data.draw(st.lists(st.sampled_from(sorted(tree)), min_size=1, max_size=8)):
            if data.draw(st.booleans()):
                (root / path).unlink(missing_ok=True)
            else:
                write(root, {path: data.draw(ABSURD)})
        sources = [found]
        with suppress(Unavailable):
            sources.append(find_power_source(root))
        for source in sources:
            seen = source.read()
            assert seen.watts is None or 0 < seen.watts <= MAX_WATTS
            assert all(0 <= mhz <= 20_000 for mhz in seen.clocks.values())
            assert all(-40 <= value <= 150 for value in seen.temperatures.values())
            assert all(count >= 0 for count in seen.events.values())


def test_a_machine_that_shows_nothing_says_of_each_meter_why(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as refused:
        find_power_source(tmp_path)
    assert [reason.partition(": ")[0] for reason in refused.value.args] == ["RAPL", "battery"]


def test_this_machine_can_be_read_whatever_it_is() -> None:
    try:
        found = find_power_source()
    except Unavailable as why:
        assert why.args and all(": " in reason for reason in why.args)
        return
    seen = found.read()
    found.close()
    assert found.name
    if seen.watts is None and found.name == "none":
        assert seen.problems
    if seen.watts is not None:
        assert 0 < seen.watts <= MAX_WATTS


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("echo one", "one\n"),
        ("echo one; exec sleep 60", "one\n"),
        ("exec sleep 60", ""),
        ("exit 3", ""),
        ("printf '\\377'", "\ufffd"),
    ],
)
def test_a_tool_that_hangs_is_killed(command: str, printed: str) -> None:
    assert output_of("sh", "-c", command, seconds=0.5) == printed


def test_a_missing_tool_prints_nothing() -> None:
    assert output_of("no-such-command", seconds=0.5) == ""
