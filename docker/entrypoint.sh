#!/bin/bash
# Run a command with ROS and this package in the environment.
set -e
# shellcheck disable=SC1090,SC1091
. "/opt/ros/$ROS_DISTRO/setup.bash"
# shellcheck disable=SC1091
. /ws/install/setup.bash
exec "$@"
