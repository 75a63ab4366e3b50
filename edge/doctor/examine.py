"""Which checks there are, and one examination from the configuration's file to the exit code."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import msgspec

from spillover.common.cli import EXIT_CONFIG, EXIT_FAILED, EXIT_MODEL
from spillover.common.config import examine_config
from spillover.common.errors import ConfigError, UnavailableError
from spillover.edge.camera.video import quiet_opencv
from spillover.edge.config import EdgeConfig, MqttConfig, WebhookConfig
from spillover.edge.doctor.broker import LIMIT_S as BROKER_S
from spillover.edge.doctor.broker import check_broker
from spillover.edge.doctor.camera import check_camera
from spillover.edge.doctor.case import Case, Check
from spillover.edge.doctor.clock import check_clock
from spillover.edge.doctor.cloud import CALL_S, check_cloud
from spillover.edge.doctor.device import check_disks, check_memory, check_others, check_temperature
from spillover.edge.doctor.evidence import check_evidence
from spillover.edge.doctor.files import (
    check_folders,
    check_identity,
    check_labels,
    check_pages,
    check_payload,
    check_policy,
    check_secrets,
    load_model,
    time_model,
)
from spillover.edge.doctor.findings import Finding, State, failed, has_failed, lines_of, ok, summary
from spillover.edge.doctor.run import Rounds
from spillover.edge.doctor.variants import check_variants
from spillover.edge.doctor.webhook import LIMIT_S as WEBHOOK_S
from spillover.edge.doctor.webhook import check_webhook
from spillover.edge.status.ask import ask_device

OF_FILES = (
    Check("model", load_model, 60.0),
    Check("labels", check_labels),
    Check("policy", check_policy, 60.0),
    Check("variants", check_variants, 60.0),
    Check("payload", check_payload, 20.0),
    Check("evidence", check_evidence, 60.0),
    Check("certificate", check_identity),
    Check("pages", check_pages),
    Check("sink secrets", check_secrets),
    Check("folders", check_folders),
)
"""The first half: no device is touched, nothing is written, and nobody is asked."""

OF_THE_DEVICE = (
    Check("clock", check_clock),
    Check("disk", check_disks, 20.0),
    Check("memory", check_memory),
    Check("temperature", check_temperature),
    Check("other programs", check_others),
)


def of_the_site(config: EdgeConfig) -> Iterator[Check]:
    """The second half, where the device is: each camera and each broker is a check of its own."""
    for camera in config.all_cameras:
        yield Check(f"camera {camera.camera_id}", partial(check_camera, camera), 20.0)
    yield Check("model time", time_model, 60.0)
    yield Check("cloud", check_cloud, 12 * CALL_S)
    for index, sink in enumerate(config.sinks):
        if isinstance(sink, MqttConfig):
            yield Check("broker", partial(check_broker, f"sinks[{index}]", sink), 4 * BROKER_S)
        elif isinstance(sink, WebhookConfig):
            yield Check("webhook", partial(check_webhook, f"sinks[{index}]", sink), 4 * WEBHOOK_S)
    yield from OF_THE_DEVICE


def examine(
    config_path: Path,
    echo: Callable[[str], None],
    *,
    as_json: bool = False,
    files_alone: bool = False,
    override: Callable[[EdgeConfig], EdgeConfig] = lambda config: config,
) -> tuple[int, list[str]]:
    """Run the checks and tell the findings by `echo`; `override` has what stands in place of the file's keys.

    Returns the exit code, and the names of checks whose threads hang. With `files_alone` only the first half
    is run, and the exit code is that of a start that meets the same.
    """
    quiet_opencv()
    cv2.setNumThreads(1)  # as the daemon does
    findings: list[Finding] = []
    left_behind: list[str] = []
    for finding in _findings(config_path, override, left_behind, files_alone=files_alone):
        findings.append(finding)
        if not as_json:
            for line in lines_of(finding):
                echo(line)
    if as_json:
        echo(msgspec.json.encode({"what": "spillover doctor", "findings": findings}).decode())
    else:
        echo(summary(findings))
    return _exit_code(findings, files_alone=files_alone), left_behind


def _findings(
    path: Path, override: Callable[[EdgeConfig], EdgeConfig], left_behind: list[str], *, files_alone: bool
) -> Iterator[Finding]:
    try:
        examined = examine_config(path, EdgeConfig)
    except ConfigError as error:
        yield failed("configuration", str(error), "mend the file, or name another with -c")
        return
    if examined.config is None:
        cure = "mend these lines; what else there is to check needs them"
        yield failed("configuration", "\n".join(examined.mistakes), cure)
        return
    case = Case(override(examined.config), path)
    yield ok("configuration", f"{path}: device_id {case.config.device_id}, mode {case.config.mode.value}")
    if not files_alone:
        _meet(case)
    rounds = Rounds(case)
    for finding in rounds.findings(OF_FILES if files_alone else (*OF_FILES, *of_the_site(case.config))):
        told = examined.locate(finding.figure) if finding.cure else finding.figure
        yield msgspec.structs.replace(finding, figure=told)
    left_behind.extend(rounds.left_behind)


def _meet(case: Case) -> None:
    """Look whether a daemon of this name runs, and with which file."""
    try:
        found = ask_device(case.config.device_id)
    except UnavailableError:
        return
    if found.config == str(case.config_path.resolve()):
        case.running = found
    else:
        case.namesake = found


def _exit_code(findings: list[Finding], *, files_alone: bool) -> int:
    if not has_failed(findings):
        return 0
    if not files_alone:
        return EXIT_FAILED
    wrong = {finding.check for finding in findings if finding.state is State.FAILED}
    return EXIT_MODEL if wrong == {"model"} else EXIT_CONFIG
