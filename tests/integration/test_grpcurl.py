"""The README's recipes, with the real grpcurl."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

GRPCURL = Path(sys.executable).with_name("grpcurl")
SERVICE = "cutstream.v1.BackgroundRemovalService"


@pytest.fixture
def grpcurl(server):
    def run(*arguments, body=None, expect=0):
        head = ["-plaintext", *(["-d", "@"] if body is not None else [])]
        answer = subprocess.run(
            [GRPCURL, *head, server.target, *arguments],
            check=False,
            input=body,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert answer.returncode == expect, answer.stderr
        return answer.stdout + answer.stderr

    return run


@pytest.fixture(scope="module")
def large_photo(photo):
    """The astronaut as a JPEG of over 3 MB."""
    picture = cv2.resize(cv2.imread(str(photo("astronaut"))), (2048, 2048), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(5).normal(0, 24, picture.shape)
    data = cv2.imencode(".jpg", np.clip(picture + noise, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    assert len(data) > 3_000_000
    return data.tobytes()


def request(image, **options):
    return json.dumps({"image_id": "from grpcurl", "image": base64.b64encode(image).decode(), "options": options})


def test_list_names_the_service_and_health(grpcurl):
    listing = grpcurl("list").split()
    assert {SERVICE, "grpc.health.v1.Health"} <= set(listing)


def test_describe_shows_the_methods(grpcurl):
    text = grpcurl("describe", SERVICE)
    assert "rpc StreamRemoveBackground ( stream .cutstream.v1.StreamRemoveBackgroundRequest )" in text


@pytest.mark.parametrize("name", ["", SERVICE])
def test_the_health_check_says_serving(grpcurl, name):
    answer = grpcurl("grpc.health.v1.Health/Check", body=json.dumps({"service": name}))
    assert json.loads(answer) == {"status": "SERVING"}


@pytest.mark.real_model
def test_a_photo_of_three_megabytes_is_cut_out(grpcurl, large_photo):
    answer = json.loads(grpcurl(f"{SERVICE}/RemoveBackground", body=request(large_photo)))
    assert answer["image_id"] == "from grpcurl"
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(answer["cutout"]["image"]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.shape == (518, 518, 4)
    assert answer["metrics"]["model_name"] == "isnet"


def test_metrics_only_brings_no_image(grpcurl, draw):
    mask = np.zeros((64, 64))
    mask[16:48, 16:48] = 1
    body = request(draw(mask), model="tiny", content="CONTENT_METRICS_ONLY")
    answer = json.loads(grpcurl(f"{SERVICE}/RemoveBackground", body=body))
    assert "image" not in answer["cutout"]
    assert answer["metrics"]["validation"] == "VALIDATION_OK"


def test_server_info_names_models_limits_and_defaults(grpcurl):
    answer = json.loads(grpcurl(f"{SERVICE}/GetServerInfo"))
    models = {model["name"]: model for model in answer["models"]}
    assert models["isnet"]["state"] == "MODEL_STATE_READY"
    assert models["isnet"]["licence"] == "Apache-2.0"
    assert answer["limits"]["max_image_bytes"] == str(32 * 1024 * 1024)
    assert answer["default_options"]["output_width_px"] == 518


def test_an_error_shows_its_reason_and_metadata(grpcurl):
    text = grpcurl(f"{SERVICE}/RemoveBackground", body=request(b"not an image"), expect=64 + 3)
    assert "InvalidArgument" in text
    assert "UNSUPPORTED_FORMAT" in text
    text = grpcurl(f"{SERVICE}/RemoveBackground", body=request(b"x", model="nerf"), expect=64 + 3)
    assert "UNKNOWN_MODEL" in text
    assert '"available":"isnet, tiny"' in text.replace(" ", "").replace("isnet,tiny", "isnet, tiny")


def test_wrong_options_show_every_field(grpcurl):
    body = request(b"x", padding_percentage=-1, mask_threshold="NaN", png_compression_level=12)
    text = grpcurl(f"{SERVICE}/RemoveBackground", body=body, expect=64 + 3)
    for field in ("options.padding_percentage", "options.mask_threshold", "options.png_compression_level"):
        assert field in text
