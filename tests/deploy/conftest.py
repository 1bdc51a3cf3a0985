"""What a running service and its Triton show at their metrics endpoints, scraped once."""

import pytest
from exposition import scrape, triton_metrics_port, work_a_little
from running import free_port, running_server


@pytest.fixture(scope="session")
def shown(tmp_path_factory, draw):
    """Label names by metric name, after a little work."""
    port = free_port()
    folder = tmp_path_factory.mktemp("scraped")
    with running_server(folder, CUTSTREAM_METRICS_LISTEN=f"127.0.0.1:{port}") as server:
        work_a_little(server, good=draw([[0.0, 0.0], [0.0, 1.0]] * 16), bad=b"no image")
        return {**scrape(port), **scrape(triton_metrics_port(server))}
