# SPDX-License-Identifier: Apache-2.0
"""What Jetsons show: files that the power sources read, and outputs of NVIDIA's tools.

None of it was recorded by this project. Paths, rail names and modes are those of the NVIDIA Jetson
Linux Developer Guide (Platform Power and Performance: r32.7 for Nano and Xavier, r35.6 and r36 for
Orin) and of energymon's table of rails (github.com/energymon/energymon, JetsonPowerRails.md). The
numbers, and the lines of tegrastats, are what users of such boards have published: parser tests and
logs of Prometheus exporters and benchmarks on GitHub.
"""

from __future__ import annotations

from pathlib import Path

Tree = dict[str, str]

INA_R32 = "sys/bus/i2c/drivers/ina3221x"
INA_R35 = "sys/bus/i2c/drivers/ina3221"


def rails_r32(device: str, *rails: tuple[str, int]) -> Tree:
    """One INA3221 of NVIDIA's driver: name and milliwatts of each channel."""
    tree: Tree = {}
    for number, (name, milliwatts) in enumerate(rails):
        tree[f"{INA_R32}/{device}/rail_name_{number}"] = name
        tree[f"{INA_R32}/{device}/in_power{number}_input"] = str(milliwatts)
    return tree


def rails_r35(device: str, *rails: tuple[str, int, int]) -> Tree:
    """One INA3221 of the kernel's driver: name, millivolts and milliamperes of each channel."""
    tree: Tree = {}
    for number, (name, millivolts, milliamperes) in enumerate(rails, 1):
        tree[f"{INA_R35}/{device}/in{number}_label"] = name
        tree[f"{INA_R35}/{device}/in{number}_input"] = str(millivolts)
        tree[f"{INA_R35}/{device}/curr{number}_input"] = str(milliamperes)
    tree[f"{INA_R35}/{device}/in7_label"] = "sum of shunt voltages"
    tree[f"{INA_R35}/{device}/in7_input"] = "8080"
    return tree


def zones(**millidegrees: str) -> Tree:
    """Thermal zones; underscores in names stand for hyphens."""
    tree: Tree = {}
    for number, (name, value) in enumerate(millidegrees.items()):
        zone = f"sys/class/thermal/thermal_zone{number}"
        tree[f"{zone}/type"] = name.replace("_", "-")
        tree[f"{zone}/temp"] = value
    return tree


def cpu(kilohertz: int) -> Tree:
    policy = "sys/devices/system/cpu/cpufreq/policy0"
    return {f"{policy}/scaling_cur_freq": str(kilohertz), f"{policy}/scaling_governor": "schedutil"}


def mode(number: int, *names: str) -> Tree:
    models = "\n".join(f"< POWER_MODEL ID={n} NAME={name} >" for n, name in enumerate(names))
    return {
        "var/lib/nvpmodel/status": f"pmode:{number:04d}\nfmode:quiet",
        "etc/nvpmodel.conf": f"< PM_CONFIG DEFAULT=0 >\n{models}",
    }


def release(text: str) -> Tree:
    return {"etc/nv_tegra_release": f"# {text}, GCID: 0, BOARD: generic, EABI: aarch64"}


def over_currents(*counts: int) -> Tree:
    hwmon = "sys/class/hwmon/hwmon3"
    counters = {f"{hwmon}/oc{n}_event_cnt": str(count) for n, count in enumerate(counts, 1)}
    return {f"{hwmon}/name": "soctherm_oc", **counters}


def alerts(**states: int) -> Tree:
    tree: Tree = {}
    for number, (name, state) in enumerate(states.items()):
        device = f"sys/class/thermal/cooling_device{number}"
        tree[f"{device}/type"] = name.replace("_", "-")
        tree[f"{device}/cur_state"] = str(state)
    return tree


NANO = {
    **release("R32 (release), REVISION: 7.1"),
    **rails_r32(
        "6-0040/iio:device0", ("POM_5V_IN", 2875), ("POM_5V_GPU", 122), ("POM_5V_CPU", 367)
    ),
    **mode(0, "MAXN", "5W"),
    **zones(AO_therm="39500", CPU_therm="36500", GPU_therm="36000", PMIC_Die="100000"),
    **cpu(204_000),
    "sys/class/devfreq/57000000.gpu/cur_freq": "76800000",
}
XAVIER_NX = {
    **release("R32 (release), REVISION: 7.1"),
    **rails_r32("7-0040/iio:device0", ("VDD_IN", 4067), ("VDD_CPU_GPU_CV", 738), ("VDD_SOC", 1353)),
    **mode(2, "MODE_15W_2CORE", "MODE_15W_4CORE", "MODE_15W_6CORE"),
    **zones(AO_therm="41500", CPU_therm="43500", GPU_therm="43000", PMIC_Die="100000"),
    **cpu(1_190_400),
    "sys/class/devfreq/17000000.gv11b/cur_freq": "306000000",
}
AGX_XAVIER = {
    **release("R32 (release), REVISION: 7.1"),
    **rails_r32("1-0040/iio:device0", ("GPU", 0), ("CPU", 311), ("SOC", 932)),
    **rails_r32("1-0041/iio:device1", ("CV", 0), ("VDDRQ", 621), ("SYS5V", 1482)),
    **mode(3, "MAXN", "MODE_10W", "MODE_15W", "MODE_30W_ALL"),
    **zones(AO_therm="37500", CPU_therm="37500", Tdiode_tegra="40000"),
    **cpu(1_190_400),
    "sys/class/devfreq/17000000.gv11b/cur_freq": "318000000",
}
ORIN_NANO = {
    **release("R36 (release), REVISION: 4.3"),
    **rails_r35(
        "1-0040/hwmon/hwmon1",
        ("VDD_IN", 4984, 960),
        ("VDD_CPU_GPU_CV", 4976, 120),
        ("VDD_SOC", 4976, 304),
    ),
    **mode(2, "15W", "25W", "MAXN_SUPER", "7W"),
    **zones(cpu_thermal="51187", gpu_thermal="50218", cv0_thermal="-256000", tj_thermal="51187"),
    **cpu(1_728_000),
    **over_currents(0, 15, 37),
    **alerts(pwm_fan=3, cpu_throttle_alert=0, gpu_throttle_alert=0, cpufreq_cpu0=0),
    "sys/class/devfreq/17000000.gpu/cur_freq": "1020000000",
}
AGX_ORIN = {
    **release("R35 (release), REVISION: 6.0"),
    **rails_r35(
        "1-0040/hwmon/hwmon3",
        ("VDD_GPU_SOC", 18792, 140),
        ("VDD_CPU_CV", 18784, 20),
        ("VIN_SYS_5V0", 4968, 980),
    ),
    **rails_r35("1-0041/hwmon/hwmon4", ("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 4968, 80), ("NC", 0, 0)),
    **mode(1, "MAXN", "MODE_15W", "MODE_30W", "MODE_50W"),
    **zones(CPU_therm="44562", tj_therm="44343"),
    **cpu(729_600),
    **over_currents(0, 0, 27390),
    **alerts(cpu_throttle_alert=0, gpu_throttle_alert=1),
    "sys/class/devfreq/17000000.ga10b/cur_freq": "611000000",
}

# board: files, source, watts, mode, GPU clock in MHz, hottest of the sensors that count
JETSONS = {
    "Nano": (NANO, "INA3221 (POM_5V_IN)", 2.875, "MAXN", 76.8, 39.5),
    "Xavier NX": (XAVIER_NX, "INA3221 (VDD_IN)", 4.067, "MODE_15W_6CORE", 306, 43.5),
    "AGX Xavier": (
        AGX_XAVIER,
        "INA3221 (GPU + CPU + SOC + CV + VDDRQ + SYS5V)",
        3.346,
        "MODE_30W_ALL",
        318,
        40.0,
    ),
    "Orin Nano": (ORIN_NANO, "INA3221 (VDD_IN)", 4.78464, "MAXN_SUPER", 1020, 51.187),
    "AGX Orin": (
        AGX_ORIN,
        "INA3221 (VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0)",
        7.8752,
        "MODE_15W",
        611,
        44.562,
    ),
}

# board: a line of tegrastats, and the module's watts in it
TEGRASTATS = {
    "Nano r32": (
        "RAM 534/3964MB (lfb 98x4MB) SWAP 5/1982MB (cached 1MB) IRAM 0/252kB(lfb 252kB) CPU "
        "[16%@204,9%@204,0%@204,0%@204] EMC_FREQ 0%@204 GR3D_FREQ 0%@76 APE 25 PLL@34C CPU@36.5C "
        "PMIC@100C GPU@36C AO@39.5C thermal@36.25C POM_5V_IN 1022/1022 POM_5V_GPU 0/0 "
        "POM_5V_CPU 204/204",
        1.022,
    ),
    "Xavier NX r32": (
        "RAM 4412/7772MB (lfb 237x4MB) SWAP 139/3886MB (cached 2MB) CPU [9%@1190,6%@1190,6%@1190,"
        "5%@1190,4%@1190,8%@1267] EMC_FREQ 10%@1600 GR3D_FREQ 62%@306 APE 150 MTS fg 0% bg 0% "
        "AO@41.5C GPU@43C PMIC@100C AUX@41.5C CPU@43.5C thermal@42.55C VDD_IN 4067/4067 "
        "VDD_CPU_GPU_CV 738/738 VDD_SOC 1353/1353",
        4.067,
    ),
    "AGX Xavier r32": (
        "RAM 721/31927MB (lfb 7291x4MB) SWAP 0/15963MB (cached 0MB) CPU [2%@1190,0%@1190,0%@1190,"
        "0%@1190,off,off,off,off] EMC_FREQ 0%@665 GR3D_FREQ 0%@318 APE 150 MTS fg 0% bg 0% "
        "AO@37.5C GPU@37.5C Tdiode@40C PMIC@100C AUX@36C CPU@37.5C thermal@36.9C Tboard@37C "
        "GPU 0/0 CPU 311/311 SOC 932/932 CV 0/0 VDDRQ 621/621 SYS5V 1482/1482",
        3.346,
    ),
    "Orin NX r35": (
        "RAM 6334/15388MB (lfb 1770x4MB) SWAP 491/7694MB (cached 0MB) CPU [6%@729,9%@729,5%@729,"
        "16%@729,off,off,off,off] EMC_FREQ 0%@2133 GR3D_FREQ 0%@611 VIC_FREQ 729 APE 174 "
        "CV0@45.812C CPU@47.937C GPU@45.875C tj@48.875C CV2@45.75C VDD_IN 5299mW/5299mW "
        "VDD_CPU_GPU_CV 773mW/773mW VDD_SOC 1424mW/1424mW",
        5.299,
    ),
    "AGX Orin r35": (
        "04-11-2025 10:36:27 RAM 4321/62801MB (lfb 1759x4MB) SWAP 19/31400MB (cached 0MB) CPU "
        "[0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] VIC_FREQ 729 APE 174 CV0@-256C "
        "CPU@44.562C Tboard@32C GPU@-256C tj@44.343C VDD_GPU_SOC 2340mW/2340mW "
        "VDD_CPU_CV 390mW/390mW VIN_SYS_5V0 4025mW/4025mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW "
        "NC 0mW/0mW",
        6.755,
    ),
    "AGX Orin r36": (
        "05-09-2026 18:42:06 RAM 18207/62841MB (lfb 466x4MB) SWAP 86/31420MB (cached 0MB) CPU "
        "[14%@2188,5%@2112] EMC_FREQ 3%@2133 GR3D_FREQ 0%@[0,0] NVENC 79%@166 NVDEC off APE 174 "
        "cpu@52.562C soc2@48.437C tj@52.562C VDD_GPU_SOC 2412mW/2412mW VDD_CPU_CV 1607mW/1607mW "
        "VIN_SYS_5V0 4707mW/4707mW",
        8.726,
    ),
}

# answers of nvpmodel -q
NVPMODEL = {
    "NV Power Mode: MAXN\n0\n": "MAXN",
    "NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2\n": "MODE_15W_6CORE",
    "NV Power Mode: MAXN_SUPER\n2\n": "MAXN_SUPER",
    "NVPM ERROR: Error opening /var/lib/nvpmodel/status: 13\n": None,
    "": None,
}

LAPTOP = {
    "sys/class/powercap/intel-rapl:0/name": "package-0",
    "sys/class/powercap/intel-rapl:0/energy_uj": "262143328000",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850",
    "sys/class/powercap/intel-rapl:0:0/name": "core",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "1000",
    "sys/class/powercap/intel-rapl:1/name": "psys",
    "sys/class/powercap/intel-rapl:1/energy_uj": "5000",
    "sys/class/power_supply/AC/type": "Mains",
    "sys/class/power_supply/BAT0/type": "Battery",
    "sys/class/power_supply/BAT0/status": "Discharging",
    "sys/class/power_supply/BAT0/power_now": "12340000",
    "sys/class/power_supply/hidpp_battery_0/type": "Battery",
    "sys/class/power_supply/hidpp_battery_0/scope": "Device",
    "sys/class/power_supply/hidpp_battery_0/status": "Discharging",
    "sys/firmware/acpi/platform_profile": "balanced",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "powersave",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1400000",
    "sys/devices/system/cpu/cpufreq/policy1/scaling_governor": "powersave",
    "sys/devices/system/cpu/cpufreq/policy1/scaling_cur_freq": "2600000",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "9",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "5",
    "sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count": "9",
    **zones(acpitz="47000"),
    "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp",
    "sys/class/thermal/thermal_zone1/temp": "63000",
}
"""A notebook with an Intel processor, from the kernel's documentation of these files."""


def write(root: Path, tree: Tree) -> Path:
    """Make the files below ``root``."""
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root
