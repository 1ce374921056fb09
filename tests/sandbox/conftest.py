"""A real S3 server on loopback."""

import os
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket that is there and empty, and credentials for it where S3 tools look."""
    import boto3
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # one kept from another module leads to a server that is gone
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(os.environ)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "loopback-access-key",
        "AWS_SECRET_ACCESS_KEY": "loopback-secret-value",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.stop()


@pytest.fixture
def s3(bucket: str) -> Any:  # Any: boto3 has no types
    import boto3

    return boto3.client("s3")
