"""Metrics in Prometheus' protocol buffers, read with the official definitions: Debian's copy of client_model, and protoc."""

import functools
import pathlib
import shutil
import subprocess
import tempfile

DEFINITIONS = pathlib.Path("/usr/share/gocode/src/github.com/prometheus/client_model")
SOURCE = "io/prometheus/client/metrics.proto"
MEDIA_TYPE = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"


def is_installed():
    try:
        import google.protobuf  # noqa: F401
    except ImportError:
        return False
    return bool(shutil.which("protoc")) and (DEFINITIONS / SOURCE).exists()


@functools.cache
def message_class(name):
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

    imported = descriptor_pb2.FileDescriptorSet()
    timestamp_pb2.DESCRIPTOR.CopyToProto(imported.file.add())
    with tempfile.TemporaryDirectory() as folder:
        known, made = pathlib.Path(folder, "known"), pathlib.Path(folder, "made")
        known.write_bytes(imported.SerializeToString())
        subprocess.run(["protoc", f"-I{DEFINITIONS}", f"--descriptor_set_in={known}", "--include_imports",
                        f"--descriptor_set_out={made}", SOURCE], check=True)
        found = descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in found.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"io.prometheus.client.{name}"))


def families(data):
    """All MetricFamily messages, each behind its length."""
    found = []
    while data:
        length = shift = used = 0
        while True:
            byte = data[used]
            length |= (byte & 0x7F) << shift
            shift, used = shift + 7, used + 1
            if not byte & 0x80:
                break
        assert length <= len(data) - used
        found.append(message_class("MetricFamily").FromString(data[used:used + length]))
        data = data[used + length:]
    return found


def native_buckets(histogram):
    """{index: count} of the positive ones; index i is (2^((i-1)/2^schema), 2^(i/2^schema)]."""
    deltas, found, at, count = iter(histogram.positive_delta), {}, 0, 0
    for span in histogram.positive_span:
        at += span.offset
        for _ in range(span.length):
            count += next(deltas)
            found[at] = count
            at += 1
    assert next(deltas, None) is None
    return found


def created(message, field):
    """The start of a counter or histogram, in seconds: a field that this version of the definitions does not know yet."""
    from google.protobuf import timestamp_pb2, unknown_fields

    for unknown in unknown_fields.UnknownFieldSet(message):
        if unknown.field_number == field:
            time = timestamp_pb2.Timestamp.FromString(unknown.data)
            return time.seconds + time.nanos / 1e9
    return None
