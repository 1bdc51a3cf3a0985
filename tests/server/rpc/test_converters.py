"""Between the messages of the API and the types of the service."""

import pytest
from google.rpc import error_details_pb2

from cutstream.v1 import cutstream_pb2 as pb
from cutstream_server import errors
from cutstream_server.errors import CutstreamError, InvalidOptionsError
from cutstream_server.imaging.geometry import Box
from cutstream_server.imaging.quality import ObjectValidation
from cutstream_server.options import Options
from cutstream_server.report import ImageReport, ThresholdInfo
from cutstream_server.rpc import converters


def test_options_have_exactly_the_fields_of_the_message():
    assert {field.name for field in pb.RemovalOptions.DESCRIPTOR.fields} == set(Options.model_fields)


def test_every_option_survives_the_way_to_a_message_and_back():
    values = Options().model_dump(exclude_none=True) | {
        "preset": "trellis",
        "output_width_px": 10,
        "output_height_px": 20,
        "background_color": "#010203",
        "region_of_interest": {"left_px": 1.0, "top_px": 2.0, "width_px": 3.0, "height_px": 4.0},
        "processing_timeout": 1.25,
    }
    message = converters.options_to_message(values)
    assert len(message.ListFields()) == len(Options.model_fields)
    assert converters.options_from_message(message) == values


def test_unset_fields_and_unspecified_enums_set_nothing():
    message = pb.RemovalOptions(framing=pb.FRAMING_UNSPECIFIED)
    assert converters.options_from_message(message) == {}


def test_enum_values_of_a_later_version_stay_numbers_for_the_check_to_refuse():
    message = pb.RemovalOptions(framing=77, channels=pb.CHANNELS_RGB)
    assert converters.options_from_message(message) == {"framing": 77, "channels": "rgb"}


@pytest.mark.parametrize("kind", CutstreamError.__subclasses__(), ids=lambda kind: kind.reason)
def test_every_error_has_a_status_code(kind):
    assert kind.reason in converters.STATUS_CODES


def test_no_reason_without_an_error():
    assert set(converters.STATUS_CODES) == {kind.reason for kind in CutstreamError.__subclasses__()}


def test_overloaded_brings_retry_info():
    status = converters.error_to_status(errors.OverloadedError("full", retry_after_seconds=0.5))
    info = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(info)
    assert info.retry_delay.ToMilliseconds() == 500


def test_metrics_travel_in_the_details_of_an_error():
    metrics = converters.metrics_to_message(ImageReport(Options()))
    status = converters.error_to_status(errors.NoObjectError("nothing"), metrics)
    unpacked = pb.Metrics()
    assert status.details[-1].Unpack(unpacked)
    assert unpacked.effective_options.mask_threshold == 0.8


def test_what_was_not_measured_stays_unset():
    message = converters.metrics_to_message(ImageReport(Options()))
    assert not message.HasField("mask_confidence_mean")
    assert message.validation == pb.VALIDATION_UNSPECIFIED


def test_an_id_of_256_bytes_fits_and_one_more_does_not():
    converters.check_image_id("ä" * 128)
    with pytest.raises(InvalidOptionsError):
        converters.check_image_id("ä" * 128 + "x")


def test_without_quality_metrics_only_validation_and_durations_are_told():
    report = ImageReport(
        Options(enable_quality_metrics=False),
        threshold=ThresholdInfo(0.8, None),
        foreground_box=Box(1.0, 2.0, 3.0, 4.0),
        validation=ObjectValidation.OK,
    )
    message = converters.metrics_to_message(report)
    assert not message.HasField("threshold")
    assert not message.HasField("foreground_box")
    assert message.validation == pb.VALIDATION_OK
