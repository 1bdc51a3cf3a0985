"""Lines of the log, as a person and as a machine reads them."""

import io
import json
import logging

import pytest
from observing import Observer

from cutstream_server.telemetry.images import ObservedImage
from cutstream_server.telemetry.logs import LINE_FORMAT, JsonFormatter, add_ids


@pytest.fixture
def log():
    """Gives a function that logs in a format, inside an image or not, and gives the text."""
    logger = logging.Logger("test", logging.DEBUG)

    def write(formatter, act, image=None):
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        handler.addFilter(add_ids)
        logger.handlers = [handler]
        if image is None:
            act(logger)
        else:
            with image.active():
                act(logger)
        return stream.getvalue()

    return write


@pytest.fixture
def image():
    return ObservedImage.in_stream(Observer().telemetry, "cat.jpg", "")


def test_a_line_about_an_image_has_its_ids_in_json(log, image):
    line = json.loads(log(JsonFormatter(), lambda logger: logger.warning("%s is odd", "it"), image))
    context = image.span.get_span_context()
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "test",
        "message": "it is odd",
        "image_id": "cat.jpg",
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
    }


def test_a_line_about_no_image_has_no_ids(log):
    line = json.loads(log(JsonFormatter(), lambda logger: logger.info("ready")))
    assert set(line) == {"time", "level", "logger", "message"}


def test_fields_of_a_line_are_members_of_the_object(log):
    line = json.loads(log(JsonFormatter(), lambda logger: logger.info("done", extra={"fields": {"outcome": "ok"}})))
    assert line["outcome"] == "ok"


def test_a_traceback_stays_within_its_line(log):
    text = log(JsonFormatter(), lambda logger: logger.error("it failed", exc_info=ValueError("broken")))
    assert text.count("\n") == 1
    assert "ValueError: broken" in json.loads(text)["exception"]


def test_a_line_about_an_image_ends_in_its_ids_on_the_console(log, image):
    text = log(logging.Formatter(LINE_FORMAT), lambda logger: logger.info("done"), image)
    context = image.span.get_span_context()
    ids = f"[image_id='cat.jpg' trace_id={context.trace_id:032x} span_id={context.span_id:016x}]"
    assert text.endswith(f"test: done {ids}\n")


def test_a_line_about_no_image_ends_with_its_message_on_the_console(log):
    assert log(logging.Formatter(LINE_FORMAT), lambda logger: logger.info("ready")).endswith("test: ready\n")


@pytest.mark.parametrize("formatter", [JsonFormatter(), logging.Formatter(LINE_FORMAT)])
def test_an_id_cannot_begin_a_line_of_its_own(log, formatter):
    image = ObservedImage.in_stream(Observer().telemetry, "cat\n2026-01-01 ERROR all is lost", "")
    assert log(formatter, lambda logger: logger.info("done"), image).count("\n") == 1
