"""Simulated edges against a real server: generators here and behind gRPC."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import msgspec
import numpy as np
import pytest

from spillover.common.errors import ConfigError
from spillover.lab.loadtest.outcomes import CLOUD, Outcomes
from spillover.lab.loadtest.simulated.generator import GeneratorFailedError, local_generator
from spillover.lab.loadtest.simulated.job import Job, LoggedFrame, Payload, unpack_outcomes
from spillover.lab.loadtest.simulated.remote import remote_generator, serving_generator
from spillover.lab.shaper.link import Link, constant
from tests.support.models import colour_classifier
from tests.support.scripted_cloud import PATIENCE_S, refuses, scripted_cloud
from tests.support.serving import cloud_config, jpeg_of, serving

pytestmark = pytest.mark.slow


def job_for(address: str, **changes: object) -> Job:
    """Six edges, four frames a second each, every second one sent, a deadline no machine misses."""
    job = Job(
        server=address,
        schedule=constant(Link()),
        first_edge=0,
        edges=6,
        fps=4.0,
        warm_up_s=0.2,
        window_s=1.0,
        deadline_s=20.0,
        margin_s=0.0,
        late_window_s=1.0,
        max_in_flight=100,
        breaker_failures=5,
        breaker_pause_max_s=4.0,
        model_name="",
        model_version="",
        max_classes=1,
        log=[LoggedFrame(n % 2 == 0, 0.001, 0.001, 0) for n in range(4)],
        payloads=[Payload(jpeg_of((0, 0, 255)))],
    )
    return msgspec.structs.replace(job, **changes)


def play(job: Job) -> Outcomes:
    """Play a job on this machine."""
    with local_generator(job) as generator:
        return unpack_outcomes(generator.go(time.time() + 0.1).outcomes)


def test_every_frame_that_was_wanted_is_sent_and_answered(tmp_path: Path) -> None:
    """Half of the frames go to the server and are answered by it; the others are local."""
    colour_classifier(tmp_path)
    with serving(cloud_config(tmp_path)) as server:
        outcomes = play(job_for(server.address))
    assert len(outcomes) == 24
    assert outcomes.sent.sum() == 12
    assert ((outcomes.ending == CLOUD) == outcomes.sent).all()
    assert not outcomes.reasons
    assert (outcomes.payload_bytes[outcomes.sent] > 0).all()
    assert not np.isnan(outcomes.server_queue_s[outcomes.sent]).any()


def test_processes_share_the_edges(tmp_path: Path) -> None:
    """Two generator processes play the same frames as one, though edges of both use one link."""
    colour_classifier(tmp_path)
    with serving(cloud_config(tmp_path)) as server:
        outcomes = play(job_for(server.address, processes=2, share=4))
    assert len(outcomes) == 24
    assert outcomes.sent.sum() == 12


def test_refusals_are_counted_by_reason_and_not_as_answers(tmp_path: Path) -> None:
    """A server that refuses a device's second request a day: its frames stay local, nothing is invented."""
    colour_classifier(tmp_path)
    limits = {"device_rate_per_s": 0.00001, "device_burst": 1}
    with serving(cloud_config(tmp_path, limits=limits)) as server:
        outcomes = play(job_for(server.address))
    refused = outcomes.reasons.get("resource_exhausted", 0) + outcomes.reasons.get("pushback", 0)
    assert refused
    assert (outcomes.ending == CLOUD).sum() + refused == 12


def test_an_absent_server_is_an_error_that_says_so() -> None:
    """Edges that cannot connect fail the run instead of measuring nothing, and the cause is one line."""
    job = job_for("127.0.0.1:1", connect_limit_s=1.0)
    with pytest.raises(GeneratorFailedError) as failed, local_generator(job):
        pass
    assert "could not all connect within 1 s" in str(failed.value)
    assert "\n" not in str(failed.value)


def test_a_generator_elsewhere_gives_the_same(tmp_path: Path) -> None:
    """A job that travels over gRPC is played there and its frames come back."""
    colour_classifier(tmp_path)
    with (
        serving(cloud_config(tmp_path)) as server,
        serving_generator("127.0.0.1:0", "secret", remote=False) as address,
        remote_generator(address, job_for(server.address), "secret") as generator,
    ):
        result = generator.go(time.time() + 0.1)
    outcomes = unpack_outcomes(result.outcomes)
    assert len(outcomes) == 24
    assert (outcomes.ending == CLOUD).sum() == 12
    assert result.up_bytes > 0


def test_a_run_that_is_given_up_ends_at_once(tmp_path: Path) -> None:
    """`abort`, as Ctrl-C calls it, ends a run whose window has hours to go; no process stays behind."""
    colour_classifier(tmp_path)
    with (
        serving(cloud_config(tmp_path)) as server,
        local_generator(job_for(server.address, window_s=7200.0)) as generator,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(generator.go, time.time())
        generator.abort()
        with pytest.raises(GeneratorFailedError):
            call.result(PATIENCE_S)


def test_a_breaker_opens_where_nothing_is_answered() -> None:
    """Calls that all fail: edges stop calling, as real ones do, and say why; every frame stays local."""
    with scripted_cloud(refuses(grpc.StatusCode.UNAVAILABLE)) as cloud:
        outcomes = play(job_for(cloud.address, fps=20.0, breaker_failures=2))
    assert outcomes.reasons["breaker open"] > 0
    assert outcomes.reasons["unavailable"] > 0
    assert not (outcomes.ending == CLOUD).any()


def test_a_generator_obeys_only_who_has_its_token() -> None:
    """A wrong token, and a missing one, are refused."""
    with serving_generator("127.0.0.1:0", "secret", remote=False) as address:
        for token in ("", "guess"):
            with (
                pytest.raises(GeneratorFailedError, match="token"),
                remote_generator(address, job_for("127.0.0.1:1"), token),
            ):
                pass


def test_a_generator_sends_to_other_machines_only_when_it_may() -> None:
    """A job against another machine is refused unless the generator was started for that."""
    with (
        serving_generator("127.0.0.1:0", "", remote=False) as address,
        pytest.raises(GeneratorFailedError, match="--remote"),
        remote_generator(address, job_for("192.0.2.1:50051"), ""),
    ):
        pass


def test_a_generator_without_a_token_stays_on_this_machine() -> None:
    """To listen for others without a token is a mistake of configuration."""
    with pytest.raises(ConfigError), serving_generator("0.0.0.0:0", "", remote=True):
        pass
