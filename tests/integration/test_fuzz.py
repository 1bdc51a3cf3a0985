"""Damaged images and requests, and requests of any fields: each gets a result or a typed error.

`make fuzz` sends many more.
"""

import math

import grpc
import pytest
from benchmarks.robustness.fuzz import fuzz
from benchmarks.robustness.material import SEED, small_files
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutstream.v1 import cutstream_pb2 as pb
from cutstream.v1 import cutstream_pb2_grpc

FAULTS = {grpc.StatusCode.UNKNOWN.value[0], grpc.StatusCode.INTERNAL.value[0]}
IMAGES = list(small_files().values())
# One option that is wrong hides all the others: most of them are right.
RIGHT_NUMBERS = st.one_of(st.just(1.0), st.floats(0, 1))
# Where a name is asked for: of a model, a service, a message, a file.
NAMES = [
    "",
    "tiny",
    "cutstream.v1.BackgroundRemovalService",
    "cutstream.v1.RemovalOptions",
    "cutstream/v1/cutstream.proto",
]
SECONDS = 120


@pytest.fixture(scope="module")
def channel(tiny_service):
    with grpc.insecure_channel(tiny_service.target) as channel:
        yield channel


def test_damaged_images_and_requests_are_answered_and_end_no_process(tiny_service):
    findings = fuzz(tiny_service, images=300, requests=150, seed=SEED)
    assert findings.images.total() == 300
    assert findings.requests.total() == 150
    assert findings.unanswered == []
    assert findings.ended_processes == []
    assert findings.ended_decoders == []
    assert findings.images["cutout"] > 30
    assert findings.images["IMAGE_UNDECODABLE"] > 30


RIGHT = {
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_STRING: st.sampled_from(["tiny", "trellis", "#00ff7f", ""]),
    FieldDescriptor.CPPTYPE_DOUBLE: RIGHT_NUMBERS,
    FieldDescriptor.CPPTYPE_INT32: st.sampled_from([1, 5, 8]),
    FieldDescriptor.CPPTYPE_INT64: st.integers(0, 60),
}
WILD = {
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_STRING: st.one_of(st.sampled_from(NAMES), st.text(max_size=300)),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-(2**31), 2**31 - 1),
}


def value_of(field, *, wild):
    """Values for a field: the ones that usually are right, or any that its type holds."""
    one = one_value_of(field, wild=wild)
    return st.lists(one, max_size=6) if field.is_repeated else one


def one_value_of(field, *, wild):
    if field.message_type is not None:
        return message_of(field.message_type, wild=wild)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.one_of(st.sampled_from(IMAGES), st.binary(max_size=100))
    if wild:
        return WILD[field.cpp_type]
    return RIGHT[field.cpp_type] if field.enum_type is None else st.sampled_from(list(field.enum_type.values_by_number))


def message_of(descriptor, *, wild):
    """Messages of a type with any of its fields set."""
    fields = {field.name: value_of(field, wild=wild) for field in descriptor.fields}
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: GetMessageClass(descriptor)(**values))


def few_options(*, wild):
    """Options of which at most three are set: with more of them one is wrong nearly always, and hides the others."""
    fields = {field.name: value_of(field, wild=wild) for field in pb.RemovalOptions.DESCRIPTOR.fields}
    names = st.sets(st.sampled_from(sorted(fields)), max_size=3)
    drawn = names.flatmap(lambda chosen: st.fixed_dictionaries({name: fields[name] for name in sorted(chosen)}))
    return drawn.map(lambda values: pb.RemovalOptions(**values))


def options():
    right = few_options(wild=False)
    return st.one_of(right, right, few_options(wild=True), message_of(pb.RemovalOptions.DESCRIPTOR, wild=True))


def with_options(kind, **fields):
    """Messages with options of which most are right, and any other fields; any of them may be unset."""
    others = {
        field.name: fields.get(field.name, value_of(field, wild=True))
        for field in kind.DESCRIPTOR.fields
        if field.name != "options"
    }
    return st.fixed_dictionaries({}, optional={**others, "options": options()}).map(lambda values: kind(**values))


def varint(number):
    head, rest = number & 0x7F, number >> 7
    return bytes([head | 0x80]) + varint(rest) if rest else bytes([head])


def unknown_fields(lowest):
    """Fields with numbers from there on: this version does not know them, or knows them as something else."""
    numbers = st.one_of(st.integers(lowest, 60), st.integers(lowest, 2**29 - 1))
    number = st.builds(lambda tag, value: varint(tag << 3) + varint(value), numbers, st.integers(0, 2**64 - 1))
    text = st.builds(lambda tag, data: varint(tag << 3 | 2) + varint(len(data)) + data, numbers, st.binary(max_size=20))
    return st.lists(st.one_of(number, text), max_size=3).map(b"".join)


def on_the_wire(messages, lowest=1):
    """Their bytes, some of them with more fields at the end."""
    serialized = messages.map(lambda message: message.SerializeToString())
    return st.one_of(serialized, serialized, st.builds(bytes.__add__, serialized, unknown_fields(lowest)))


def of_grpc(kind):
    """Messages of gRPC's own services. The library answers UNKNOWN to bytes that are none of its messages."""
    return on_the_wire(message_of(kind.DESCRIPTOR, wild=True), lowest=20)


IDS = st.one_of(st.sampled_from(["a", "b"]), st.text(max_size=90))
CHUNKS = with_options(pb.ImageChunk, image_id=IDS).map(lambda chunk: pb.StreamRemoveBackgroundRequest(chunk=chunk))
CONFIGS = st.one_of(few_options(wild=False), options()).map(
    lambda chosen: pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig(options=chosen))
)
ANY_PART = message_of(pb.StreamRemoveBackgroundRequest.DESCRIPTOR, wild=True)
SLOW_TO_DRAW = settings(suppress_health_check=list(HealthCheck))
API = "/cutstream.v1.BackgroundRemovalService"


def codes_of(call, answered):
    """The status codes of a call and of what failed inside it."""
    codes = set()
    try:
        for answer in call:
            message = answered.FromString(answer)
            if isinstance(message, pb.StreamRemoveBackgroundResponse):
                codes.add(message.image.error.code)
    except grpc.RpcError as error:
        codes.add(error.code().value[0])
    return codes


@SLOW_TO_DRAW
@given(on_the_wire(with_options(pb.RemoveBackgroundRequest)))
def test_no_fields_of_a_unary_request_make_a_fault(channel, data):
    # On the wire a unary call is a stream of one message.
    call = channel.unary_stream(f"{API}/RemoveBackground")(data, timeout=SECONDS)
    assert not codes_of(call, pb.RemoveBackgroundResponse) & FAULTS


@SLOW_TO_DRAW
@given(
    on_the_wire(st.one_of(CONFIGS, CONFIGS, CONFIGS, ANY_PART)),
    st.lists(on_the_wire(st.one_of(CHUNKS, CHUNKS, CHUNKS, ANY_PART)), max_size=5),
)
def test_no_messages_of_a_stream_make_a_fault(channel, first, others):
    call = channel.stream_stream(f"{API}/StreamRemoveBackground")(iter([first, *others]), timeout=SECONDS)
    assert not codes_of(call, pb.StreamRemoveBackgroundResponse) & FAULTS


@given(st.one_of(st.binary(max_size=40), unknown_fields(1)))
def test_no_bytes_of_a_request_for_information_make_a_fault(channel, data):
    call = channel.unary_stream(f"{API}/GetServerInfo")(data, timeout=SECONDS)
    assert not codes_of(call, pb.GetServerInfoResponse) & FAULTS


@given(of_grpc(health_pb2.HealthCheckRequest))
def test_no_fields_of_a_question_for_health_make_a_fault(channel, data):
    check = channel.unary_stream("/grpc.health.v1.Health/Check")(data, timeout=SECONDS)
    assert not codes_of(check, health_pb2.HealthCheckResponse) & FAULTS
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(data, timeout=SECONDS)
    assert health_pb2.HealthCheckResponse.FromString(next(watch))
    watch.cancel()


@given(st.lists(of_grpc(reflection_pb2.ServerReflectionRequest), max_size=4))
def test_no_fields_of_a_reflection_make_a_fault(channel, messages):
    method = f"/{reflection_pb2.DESCRIPTOR.services_by_name['ServerReflection'].full_name}/ServerReflectionInfo"
    answers = list(channel.stream_stream(method)(iter(messages), timeout=SECONDS))
    assert len(answers) == len(messages)


def test_numbers_that_are_none_are_refused_by_name(channel):
    with pytest.raises(grpc.RpcError) as caught:
        cutstream_pb2_grpc.BackgroundRemovalServiceStub(channel).RemoveBackground(
            pb.RemoveBackgroundRequest(image=IMAGES[0], options=pb.RemovalOptions(mask_threshold=math.nan))
        )
    assert "mask_threshold" in caught.value.details()
