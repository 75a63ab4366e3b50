"""Checks that need files alone, no device and no network: model, labels, policy, certificate, folders."""

import math
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spillover.common.errors import ConfigError, InvalidInputError, ModelError
from spillover.common.files import exposure
from spillover.common.home import cache_home
from spillover.common.model.pictures import VisionModel
from spillover.common.mounts import demand_folder
from spillover.common.net.post import trusted
from spillover.common.net.reload import read_file, read_secret
from spillover.common.security.tokens import read_tokens
from spillover.edge.assembly.camera import for_camera, own_keys
from spillover.edge.assembly.daemon import open_model
from spillover.edge.assembly.events import build_events
from spillover.edge.assembly.offload import check_offload, in_words
from spillover.edge.assembly.policy import policy_for, report_filter
from spillover.edge.assembly.temporal import build_temporal
from spillover.edge.config import (
    CameraConfig,
    EdgeConfig,
    Mode,
    MqttConfig,
    PayloadKind,
    TlsConfig,
    WebhookConfig,
)
from spillover.edge.config.paths import check_written, written_files
from spillover.edge.doctor.case import Case
from spillover.edge.doctor.findings import Finding, failed, ok, skipped, warning
from spillover.edge.doctor.variants import median_s
from spillover.edge.events.values import ObjectEvent
from spillover.edge.payload.redaction import build_redaction
from spillover.edge.payload.video import check_codec
from spillover.edge.results.delivery import EventKind, Fields
from spillover.edge.sinks.webhook import signature
from spillover.edge.web.gate import open_gate

if TYPE_CHECKING:
    from spillover.common.net.tls import KeyPair

NO_MODEL = "the model did not load"


def load_model(case: Case) -> Iterator[Finding]:
    """The folder is whole, and the runtime takes the network."""
    try:
        case.model = open_model(case.config.model)
    except ModelError as error:
        yield failed("model", str(error), "name a good folder there, or make it anew with `spillover lab`")
    except ConfigError as error:
        yield failed("model", str(error), "name providers that are here")
    else:
        folder = case.model.folder
        inputs = [one.manifest.own_input for one in folder.members or (folder,)]
        sizes = " and ".join(f"{spec.width}x{spec.height}" for spec in inputs)
        yield ok("model", f"{case.model.model_id}, {folder.task.name}, {sizes}")


def time_model(case: Case) -> Iterator[Finding]:
    """How long a frame takes, against the deadline and the cameras' rates. Runs after `load_model`."""
    if case.model is None:
        return
    took_s, config = median_s(case.model), case.config
    figure = f"{took_s * 1000:.1f} ms a frame"
    left_s = config.deadline_s - config.deadline_margin_s
    measured = case.camera_fps
    rate = sum(min(measured.get(one.camera_id, 0.0), one.most_fps or math.inf) for one in config.all_cameras)
    if took_s > left_s:
        yield failed(
            "model time",
            f"{figure}, and the deadline leaves {left_s * 1000:.0f} ms: no answer is in time",
            "take a smaller model or a longer deadline_s",
        )
    elif case.camera_fps and took_s * rate > 1:
        yield warning(
            "model time",
            f"{figure}, so {1 / took_s:.1f} frames/s, and the cameras give {rate:.1f}",
            "the newest frame is used and the others are dropped: set camera.fps, or take a smaller model",
        )
    else:
        yield ok("model time", f"{figure}, the deadline leaves {left_s * 1000:.0f} ms")


def check_labels(case: Case) -> Iterator[Finding]:
    """Names of classes; their number was compared with the network's when the model was loaded."""
    if case.model is None:
        yield skipped("labels", NO_MODEL)
        return
    count = len(case.model.folder.labels)
    if count:
        yield ok("labels", f"{count} names, the first is {case.model.folder.labels[0]!r}")
    else:
        yield warning(
            "labels", "none: results carry class numbers alone", "name a file as `labels` in model.yaml"
        )


def check_policy(case: Case) -> Iterator[Finding]:
    """What has to fit the model: policy, classes, redaction, events, correction, forms of payload."""
    model, config = case.model, case.config
    if model is None:
        yield skipped("policy", NO_MODEL)
        return
    task = model.folder.task
    parts: list[Callable[[], object]] = [
        lambda: report_filter(config, model),
        lambda: policy_for(config, model),
        lambda: build_temporal(config, task),
        *(partial(_check_camera, config, camera, model) for camera in config.all_cameras),
        lambda: check_offload(config, model),
    ]
    wrong = []
    for part in parts:
        try:
            part()
        except (ConfigError, ModelError) as error:
            wrong.append(str(error))
    for text in dict.fromkeys(wrong):
        yield failed("policy", text, "change the key that this line names")
    if not wrong:
        yield ok("policy", f"{config.policy.kind} fits a model for {task.name}")


def check_payload(case: Case) -> Iterator[Finding]:
    """What payload `video` needs beside the configuration; without it JPEG goes in its place."""
    uplink = case.config.uplink
    if case.config.mode is Mode.EDGE_ONLY or uplink.payload is not PayloadKind.VIDEO:
        return
    try:
        check_codec(uplink)
    except ConfigError as error:
        cause, _, command = str(error).rpartition(": ")
        yield warning("payload", f"JPEG goes in place of video: {cause}", command)
    except InvalidInputError as error:
        yield warning("payload", f"JPEG goes in place of video: {error}", "install PyAV from its own wheel")
    else:
        yield ok("payload", in_words(uplink, has_video=True))


def _check_camera(config: EdgeConfig, camera: CameraConfig, model: VisionModel) -> None:
    """What has to fit the model for one camera, in place of the device's where it says so."""
    own = for_camera(config, camera)
    with own_keys(config, camera):
        if camera.policy:
            policy_for(own, model, camera.camera_id)
        build_redaction(own.redaction, model.folder.labels, model.folder.task, model.class_count)
    build_events(config, camera, model, _nobody)


def _nobody(_kind: EventKind, _fields: Fields, of: ObjectEvent | None = None) -> None:
    """Here nothing happens that could be told."""


def check_identity(case: Case) -> Iterator[Finding]:
    """Certificate, key and token of this device: readable, valid now, for this device, kept from others."""
    uplink, config = case.config.uplink, case.config
    if config.mode is Mode.EDGE_ONLY:
        yield skipped("certificate", "mode edge_only: nothing is sent")
        return
    if uplink.tls is None:
        yield skipped("certificate", "no uplink.tls: calls are not encrypted")
    else:
        yield from _check_tls(uplink.tls, config)
    if uplink.token_file:
        path = Path(uplink.token_file).expanduser()
        token = read_file(path, "uplink.token_file").strip()
        if token:
            yield from _kept("token", path, f"read from {path}")
        else:
            yield failed("token", f"{path} is empty", "write the token of `spillover cloud tokens` into it")


def _check_tls(tls: TlsConfig, config: EdgeConfig) -> Iterator[Finding]:
    from spillover.common.net.tls import load_certificates, utc_now  # only where TLS is used

    ca, now = Path(tls.ca).expanduser(), utc_now()
    cure = "copy the file that `spillover cloud certs` made, and let this user read it"
    try:
        cas = load_certificates(read_file(ca, "uplink.tls.ca"), f"uplink.tls.ca: {ca}")
    except ConfigError as error:
        yield failed("certificate", str(error), cure)
        return
    if ended := [one for one in cas if one.not_valid_after_utc <= now]:
        figure = f"the CA in {ca} ended on {ended[0].not_valid_after_utc:%Y-%m-%d}"
        yield failed("certificate", figure, "copy the CA's new certificate to uplink.tls.ca")
    elif not tls.certificate:
        yield ok("certificate", f"the server is checked by {ca}; this device shows none")
    if tls.certificate:
        yield from _check_own(tls, config, now, cure)


def _check_own(tls: TlsConfig, config: EdgeConfig, now: datetime, cure: str) -> Iterator[Finding]:
    from spillover.common.net.tls import load_certificates, load_key_pair

    certificate, key = Path(tls.certificate).expanduser(), Path(tls.key).expanduser()
    try:
        pair = load_key_pair(certificate, key, "uplink.tls")
    except ConfigError as error:
        yield failed("certificate", str(error), cure)
        return
    leaf = load_certificates(pair.certificate_pem, str(certificate))[0]
    name = next((str(one.value) for one in leaf.subject if one.rfc4514_attribute_name == "CN"), "")
    if name != config.device_id:
        figure = (
            f"{certificate} is for {name!r}, and device_id is {config.device_id!r}: the server refuses that"
        )
        yield failed("certificate", figure, f"set device_id: {name}, or have a certificate made for it")
    yield _validity(pair, now, f"{certificate} for {name!r}")
    yield from _kept("key", key, f"read from {key}")


def _validity(pair: "KeyPair", now: datetime, what: str, check: str = "certificate") -> Finding:
    if now < pair.valid_from:
        figure = f"{what} begins on {pair.valid_from:%Y-%m-%d}, and the clock says {now:%Y-%m-%d}"
        return failed(check, figure, "set the clock")
    days = pair.days_left(now)
    if days <= 0:
        figure = f"{what} ended on {pair.valid_until:%Y-%m-%d}"
        return failed(check, figure, "have it made anew, or set the clock")
    if pair.ends_soon(now):
        return warning(check, f"{what} ends in {days:.0f} days", "have it made anew")
    return ok(check, f"{what}, {days:.0f} days left")


def check_pages(case: Case) -> Iterator[Finding]:
    """The pages at `metrics_address` have their certificate, valid now, and their tokens."""
    security = case.config.security
    if not case.config.metrics_address:
        return
    try:
        open_gate(security, lambda _: None)
        if tls := security.tls:
            from spillover.common.net.tls import load_key_pair, utc_now  # only where TLS is used

            certificate, key = Path(tls.certificate).expanduser(), Path(tls.key).expanduser()
            pair = load_key_pair(certificate, key, "security.tls")
            yield _validity(pair, utc_now(), f"{certificate} of the pages", "pages")
            yield from _kept("page key", key, f"read from {key}")
    except ConfigError as error:
        yield failed("pages", str(error), "make it by `spillover cloud certs` or `spillover edge token add`")
        return
    if security.tokens_file:
        count = len(read_tokens(Path(security.tokens_file).expanduser()))
        yield ok("pages", f"{count} tokens in {security.tokens_file}")


def _kept(check: str, path: Path, figure: str) -> Iterator[Finding]:
    """Whether a secret is kept from those who have no business with it."""
    if why := exposure(path):
        problem, _, cure = why.rpartition(": ")
        yield warning(check, f"{path} {problem}", f"{cure} {path}")
    else:
        yield ok(check, figure)


def check_folders(case: Case) -> Iterator[Finding]:
    """Folders of everything that is written: there, and this user may write. Nothing is written here."""
    wrong = [
        finding for written in written_files(case.config) for finding in _folder(written.key, written.path)
    ]
    try:
        check_written(case.config, case.config_path)
    except ConfigError as error:
        wrong.append(failed("folders", str(error), "change the key that this line names"))
    yield from wrong
    if not wrong:
        folders = list(dict.fromkeys(str(written.path.parent) for written in written_files(case.config)))
        yield ok("folders", ", ".join(folders) or "no files are written")


def _folder(key: str, path: Path) -> Iterator[Finding]:
    folder = path.parent
    try:
        if folder == cache_home():  # which the daemon makes
            folder = next(above for above in (folder, *folder.parents) if above.is_dir())
        else:
            demand_folder(path)
    except OSError as error:
        figure = f"{key}: {error.filename}: {error.strerror}"
        yield failed(
            "folders", figure, f"mount the disk, or mkdir -p {folder}; until then what is written waits"
        )
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield failed("folders", f"{key}: this user may not write in {folder}", _may_write(folder))
    elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
        yield failed("folders", f"{key}: this user may not write {path}", _may_write(path))


def _may_write(path: Path) -> str:
    return f"give it to the user of the daemon: chown USER {path}"


def check_secrets(case: Case) -> Iterator[Finding]:
    """What sinks prove themselves by can be read and is kept, and so can the CA that they trust."""
    for index, sink in enumerate(case.config.sinks):
        if isinstance(sink, WebhookConfig | MqttConfig):
            yield from _check_secret(f"sinks[{index}]", sink)


def _check_secret(key: str, sink: WebhookConfig | MqttConfig) -> Iterator[Finding]:
    is_webhook = isinstance(sink, WebhookConfig)
    named = sink.secret_file if isinstance(sink, WebhookConfig) else sink.password_file
    path = Path(named).expanduser()
    try:
        secret = read_secret(path, f"{key}.{'secret' if is_webhook else 'password'}_file") if named else ""
        if is_webhook:
            signature(secret, "", 0, b"")
        if sink.ca:
            trusted(sink.ca)
    except ConfigError as error:
        yield failed("sink secrets", str(error), "write the secret into it, and let this user read it")
    except OSError as error:
        why = f"{key}.ca: {sink.ca}: {error.strerror or error}"
        yield failed("sink secrets", why, "name a PEM file that this user may read")
    else:
        if named:
            yield from _kept("sink secrets", path, f"read from {path}")
