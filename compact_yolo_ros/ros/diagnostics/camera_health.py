# SPDX-License-Identifier: Apache-2.0
"""The health of one camera."""

from __future__ import annotations

from compact_yolo_ros.ros.diagnostics.frame_counters import Outcome, Snapshot
from compact_yolo_ros.ros.diagnostics.situations import CameraSituation
from compact_yolo_ros.ros.diagnostics.status import Level, Status

SILENCE, MAX_SILENCE = 2.0, 60.0
"""Seconds without an image after which a camera is stale, and after which a slow one is."""
PERIODS = 3
"""Of its usual intervals, which a slow camera may be silent for."""
UNANSWERED = 5.0
"""Seconds for which images arrive, or one is in work, without any answer: then it is an error."""
MIN_IMAGES = 10
"""Images in the window before a share of them means anything."""
KEEPING_UP = 0.9
"""Share of the wanted images that must be processed; else it is falling behind."""
MAX_REFUSED = 0.1
"""Share of the images that ``max_age`` may refuse before that is told."""
FUTURE, PAST = -0.1, 60.0
"""Ages in seconds that clocks in step do not give: they are never in step exactly."""
SYNCHRONISE = (
    "synchronise the clocks of the camera's machine and this one; for simulated or recorded images "
    "set use_sim_time"
)


FASTER = "a smaller input_size or model is faster"


def assess_camera(
    snapshot: Snapshot, camera: CameraSituation, *, others_are_answered: bool
) -> Status:
    """Find the worst problems of a camera; OK with its rate and age if there are none.

    Args:
        snapshot: its counts and times.
        camera: what surrounds its images.
        others_are_answered: whether those of other cameras are, so that nothing is stuck.
    """
    if _is_silent(snapshot):
        return _silent(snapshot, camera)
    if is_failing(snapshot):
        level = Level.ERROR if snapshot.age is None else Level.WARN
        failures = max(1, snapshot.recent_errors)
        return Status(level, f"{failures} failures: {snapshot.last_error}")
    if snapshot.age is None:
        status = _without_answers(snapshot, others_are_answered)
        waits = status.level == Level.OK  # as a slow camera does between two images
        return Status(Level.WARN, camera.concern) if waits and camera.concern else status
    age = snapshot.age.p50
    problems = (_strange_age(age), _refused(snapshot), _falling_behind(snapshot), camera.concern)
    if any(problems):
        return Status(Level.WARN, "; ".join(filter(None, problems)))
    return Status(Level.OK, f"{snapshot.fps_out:.1f} images/s, median age {age * 1e3:.1f} ms")


def is_failing(snapshot: Snapshot) -> bool:
    """Whether failures are what the status of a camera tells.

    Of a slow camera, the last image may have failed before the window.
    """
    has_failed = snapshot.outcome is Outcome.FAILED and snapshot.unanswered < UNANSWERED
    return (snapshot.recent_errors > 0 or has_failed) and not _is_silent(snapshot)


def _is_silent(snapshot: Snapshot) -> bool:
    return snapshot.silence >= min(max(SILENCE, PERIODS * snapshot.interval), MAX_SILENCE)


def _without_answers(snapshot: Snapshot, others_are_answered: bool) -> Status:
    if snapshot.fps_refused:
        return _refusing(snapshot)
    if snapshot.unanswered >= UNANSWERED and others_are_answered:
        return Status(
            Level.WARN,
            f"falling behind: an image has waited for {snapshot.unanswered:.0f} s, while those of "
            f"other cameras are answered; {FASTER}",
        )
    if snapshot.unanswered >= UNANSWERED:
        sentence = f"no image was answered for {snapshot.unanswered:.0f} s: restart the node"
        return Status(Level.ERROR, sentence)
    if snapshot.outcome is Outcome.REFUSED:  # of a slow camera, before the window
        return _refusing(snapshot)
    if snapshot.processed:
        sentence = f"waiting for the next image; the last ones came {snapshot.interval:.0f} s apart"
        return Status(Level.OK, sentence)
    awaited = "answer" if snapshot.received else "image"
    return Status(Level.OK, f"waiting for the first {awaited}")


def _refusing(snapshot: Snapshot) -> Status:
    return Status(Level.WARN, f"max_age refuses every image: {refused_age(snapshot.refused_age)}")


def _strange_age(age: float) -> str:
    if FUTURE <= age <= PAST:
        return ""
    return f"the median age of {age:.1f} s cannot be: {SYNCHRONISE}"


def _refused(snapshot: Snapshot) -> str:
    images = snapshot.fps_in * snapshot.span
    if images < MIN_IMAGES or snapshot.fps_refused <= MAX_REFUSED * snapshot.fps_in:
        return ""
    share = snapshot.fps_refused / snapshot.fps_in
    return f"max_age refuses {share:.0%} of the images: {refused_age(snapshot.refused_age)}"


def refused_age(age: float) -> str:
    """How old the last image is that ``max_age`` refused, and what to do.

    Args:
        age: in seconds since its stamp; negative if that is in the future.
    """
    if age < 0:
        return f"the last one has a stamp {-age:.1f} s in the future: {SYNCHRONISE}"
    if age > PAST:
        return f"the last one is {age:.1f} s old, which cannot be: {SYNCHRONISE}"
    return (
        f"the last one was {age:.1f} s old on arrival: check the camera's driver, the transport "
        "and the clocks"
    )


def _falling_behind(snapshot: Snapshot) -> str:
    wanted = snapshot.fps_in - snapshot.fps_skipped - snapshot.fps_refused
    if wanted * snapshot.span < MIN_IMAGES or snapshot.fps_out >= KEEPING_UP * wanted:
        return ""
    return (
        f"falling behind: {wanted:.1f} images/s are wanted, {snapshot.fps_out:.1f} are "
        f"processed; {FASTER}"
    )


def _silent(snapshot: Snapshot, camera: CameraSituation) -> Status:
    topic = camera.topic
    if camera.incompatible_qos:
        return Status(Level.ERROR, too_reliable(topic))
    if camera.mistake:
        return Status(Level.ERROR, camera.mistake)
    if camera.publishers == 0:
        return Status(Level.STALE, f"{topic} has no publisher: check image_topic")
    # Not how many publishers: DDS keeps those of a process that died for some time.
    silence = f"no image on {topic} for {snapshot.silence:.0f} s although {_listed(camera.nodes)}"
    if camera.is_latched:
        earlier = (
            ""
            if camera.asks_for_latched
            else "one from before the subscription comes only with reliability auto, and "
        )
        return Status(
            Level.STALE,
            f"{silence} announced it: its images are latched (transient_local), so {earlier}the "
            "next comes when it changes",
        )
    return Status(Level.STALE, f"{silence} announced it: check the camera and the DDS profile")


def too_reliable(topic: str) -> str:
    """Why nothing comes on a topic whose publishers offer less than the parameter asks for."""
    return (
        f"{topic} is published best effort but the subscription is reliable, so nothing arrives: "
        "set reliability to auto"
    )


def _listed(nodes: tuple[str, ...]) -> str:
    more = f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
    return (", ".join(nodes[:3]) or "a node") + more
