"""Writes one FileDescriptorSet with the Envoy protobufs that the mesh speaks, and all that they import.

Usage: envoy-descriptors.py PACKAGES_DIR OUTPUT   (PACKAGES_DIR holds PyPI's xds-protos)
"""

import importlib
import sys

sys.path.insert(0, sys.argv[1])
from google.protobuf import descriptor_pb2  # noqa: E402  (found only after the line above)

ROOTS = [
    "envoy.service.discovery.v3.ads_pb2",
    "envoy.service.discovery.v3.discovery_pb2",
    "envoy.config.route.v3.route_pb2",
    "envoy.config.route.v3.scoped_route_pb2",
    "envoy.config.cluster.v3.cluster_pb2",
    "envoy.config.endpoint.v3.endpoint_pb2",
    "envoy.service.auth.v3.external_auth_pb2",
    "envoy.extensions.transport_sockets.tls.v3.tls_pb2",
    "envoy.extensions.upstreams.http.v3.http_protocol_options_pb2",
]

files = {}


def collect(descriptor):
    """Adds a file after the files that it imports, as protoc plug-ins expect."""
    if descriptor.name in files:
        return
    for dependency in descriptor.dependencies:
        collect(dependency)
    proto = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(proto)
    files[descriptor.name] = proto


for root in ROOTS:
    collect(importlib.import_module(root).DESCRIPTOR)
result = descriptor_pb2.FileDescriptorSet(file=files.values())
with open(sys.argv[2], "wb") as output:
    output.write(result.SerializeToString())
print(f"{len(files)} files")
