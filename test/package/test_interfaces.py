# SPDX-License-Identifier: Apache-2.0
"""The installed vision_msgs have the wire format of vision_msgs 4.1.1."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.ros

# type hash of the original vision_msgs 4.1.1; a node with another one does not match
DETECTION_2D_ARRAY = "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968"

FIELDS = {
    "BoundingBox2D": {"center": "vision_msgs/Pose2D", "size_x": "double", "size_y": "double"},
    "BoundingBox3D": {"center": "geometry_msgs/Pose", "size": "geometry_msgs/Vector3"},
    "Detection2D": {
        "header": "std_msgs/Header",
        "results": "sequence<vision_msgs/ObjectHypothesisWithPose>",
        "bbox": "vision_msgs/BoundingBox2D",
        "id": "string",
    },
    "Detection3D": {
        "header": "std_msgs/Header",
        "results": "sequence<vision_msgs/ObjectHypothesisWithPose>",
        "bbox": "vision_msgs/BoundingBox3D",
        "id": "string",
    },
    "Detection3DArray": {
        "header": "std_msgs/Header",
        "detections": "sequence<vision_msgs/Detection3D>",
    },
    "LabelInfo": {
        "header": "std_msgs/Header",
        "class_map": "sequence<vision_msgs/VisionClass>",
        "threshold": "float",
    },
    "ObjectHypothesis": {"class_id": "string", "score": "double"},
    "VisionClass": {"class_id": "uint16", "class_name": "string"},
    "VisionInfo": {
        "header": "std_msgs/Header",
        "method": "string",
        "database_location": "string",
        "database_version": "int32",
    },
}


@pytest.fixture
def node():
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("interfaces_test", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_detection_array_on_the_wire_has_the_original_type_hash(node) -> None:
    from vision_msgs.msg import Detection2DArray

    node.create_publisher(Detection2DArray, "detections", 1)
    deadline = time.monotonic() + 20
    while not (publishers := node.get_publishers_info_by_topic("detections")):
        assert time.monotonic() < deadline, "the publisher was not discovered"
        time.sleep(0.05)
    assert publishers[0].topic_type == "vision_msgs/msg/Detection2DArray"
    assert str(publishers[0].topic_type_hash) == DETECTION_2D_ARRAY


@pytest.mark.parametrize("name", FIELDS)
def test_fields_are_those_of_the_original_in_order(name: str) -> None:
    import vision_msgs.msg

    fields = getattr(vision_msgs.msg, name).get_fields_and_field_types()
    assert list(fields.items()) == list(FIELDS[name].items())


def test_a_label_info_survives_serialisation() -> None:
    from rclpy.serialization import deserialize_message, serialize_message
    from vision_msgs.msg import LabelInfo, VisionClass

    info = LabelInfo(threshold=0.25)
    info.header.frame_id = "camera"
    info.class_map = [VisionClass(class_id=3, class_name="bus")]
    assert deserialize_message(serialize_message(info), LabelInfo) == info
