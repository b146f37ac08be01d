# SPDX-License-Identifier: Apache-2.0
"""Which environment variable names Fast DDS's profile; needs no ROS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
OLD_PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
PROFILE_VARIABLES = (PROFILE_VARIABLE, OLD_PROFILE_VARIABLE)
SENDER_PROFILE, DETECTOR_PROFILE = "fastdds_shm.xml", "fastdds_detector.xml"
"""Files in ``config/``: for who sends images, and for who receives them and sends little."""
OLD_DISTRIBUTIONS = ("humble", "iron", "jazzy")
"""Where Fast DDS reads only the old variable; later ones read the new one and warn of the old."""


def is_old(environment: Mapping[str, str]) -> bool:
    """Whether the ROS distribution of an environment reads the old variable."""
    return environment.get("ROS_DISTRO") in OLD_DISTRIBUTIONS


def profile_variable(environment: Mapping[str, str]) -> str:
    """The variable that the ROS distribution of an environment reads."""
    return OLD_PROFILE_VARIABLE if is_old(environment) else PROFILE_VARIABLE


def profile_environment(environment: Mapping[str, str], profile: str) -> dict[str, str]:
    """The variable with which a process reads ``profile``; none if the machine has chosen another.

    Args:
        environment: of the machine.
        profile: path of the file.
    """
    read = (OLD_PROFILE_VARIABLE,) if is_old(environment) else PROFILE_VARIABLES
    if any(environment.get(name) for name in read):
        return {}
    return {profile_variable(environment): profile}


def detector_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variable for a detector beside a sender of images; none if that has another profile.

    Args:
        environment: of the sender.
    """
    variable = profile_variable(environment)
    profile = Path(environment.get(variable, ""))
    if profile.name != SENDER_PROFILE:
        return {}
    return {variable: str(profile.with_name(DETECTOR_PROFILE))}
