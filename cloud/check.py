"""`spillover cloud --check`: every mistake in a configuration, its files and its models, without a server.

It goes through the same code as the start, but part by part, so that one mistake does not hide the next.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from spillover.cloud.config import CloudConfig, ModelsConfig, SecurityConfig, TlsConfig
from spillover.cloud.machine import machine_bytes
from spillover.cloud.models.loader import load_spec_of
from spillover.cloud.models.repository import Repository
from spillover.cloud.models.trials import Trials
from spillover.cloud.rpc.connections.descriptors import allowed_descriptors, places, too_few
from spillover.cloud.rpc.listening import check_socket_file
from spillover.cloud.security.certificates import read_revoked
from spillover.cloud.serving.room import room_for
from spillover.cloud.serving.stopping import DRAINED
from spillover.cloud.serving.streams.streams import fault_of_video
from spillover.common.config import examine_config, examine_values, under_key
from spillover.common.errors import ConfigError, ModelError, NotFoundError
from spillover.common.files import exposure
from spillover.common.jpeg import most_decode_bytes
from spillover.common.model.manifest import MODEL_FILE
from spillover.common.model.runtimes.onnxruntime import check_providers
from spillover.common.net.addresses import UNIX, split_host_port
from spillover.common.net.reload import read_file
from spillover.common.net.tls import load_certificates, load_key_pair, utc_now
from spillover.common.report import Report
from spillover.common.security.tokens import read_tokens


def check_all(path: Path | None, models: tuple[str, ...], echo: Callable[[str], None]) -> int:
    """Check the configuration at `path` (none: the defaults), with `models` in place of `models.load`.

    Tells everything by `echo`; gives the exit code.
    """
    report = Report()
    with report.collecting():
        examined = examine_config(path, CloudConfig) if path else examine_values({}, CloudConfig, "defaults")
        report.locate = examined.locate
        report.config.extend(examined.mistakes)
        _check(examined.good, models, report)
    for line in report.lines():
        echo(line)
    return report.exit_code


def _check(good: Mapping[str, Any], models: tuple[str, ...], report: Report) -> None:
    if "security" in good:
        _check_security(good["security"], report)
    _check_addresses(good.get("listen"), good.get("metrics"), report)
    if "models" in good:
        chosen = msgspec.structs.replace(good["models"], load=models) if models else good["models"]
        loading = ("session", "batching", "batching_of", "limits")
        config = CloudConfig(models=chosen, **{key: good[key] for key in loading if key in good})
        _check_models(config, report)
    _tell_figures(good, report)


def _check_security(security: SecurityConfig, report: Report) -> None:
    if security.tls:
        _check_tls(security.tls, report)
    if security.forwarded:
        _check_callers("security.forwarded", security.forwarded.client_ca, security.forwarded.crl, report)
    if security.tokens_file:
        path = Path(security.tokens_file).expanduser()
        with report.collecting(), under_key("security.tokens_file"):
            read_file(path, "security.tokens_file")
            tokens = read_tokens(path)
            report.facts.append(("tokens", f"{len(tokens)} in {path}"))
            ended = [token.name for token in tokens if token.expires and token.expires <= utc_now()]
            report.warnings.extend(f"security.tokens_file: the token of {one!r} has expired" for one in ended)
            known = {*security.roles}
            report.warnings.extend(
                f"security.tokens_file: {token.name!r} has the role {token.role!r}, which no key of "
                "security.roles permits anything"
                for token in tokens
                if token.role not in known
            )
        _check_exposure("security.tokens_file", path, report)


def _check_tls(tls: TlsConfig, report: Report) -> None:
    section = "security.tls"
    certificate, key = Path(tls.certificate).expanduser(), Path(tls.key).expanduser()
    before = len(report.config)
    for name, path in (("certificate", certificate), ("key", key)):
        with report.collecting():
            read_file(path, f"{section}.{name}")
    if len(report.config) == before:
        with report.collecting():
            pair = load_key_pair(certificate, key, section)
            now, what = utc_now(), f"{section}.certificate: {certificate}"
            if pair.valid_from > now:
                report.config.append(f"{what} begins on {pair.valid_from:%Y-%m-%d}")
            if pair.valid_until <= now:
                report.config.append(f"{what} ended on {pair.valid_until:%Y-%m-%d}")
            elif pair.ends_soon(now):
                report.warnings.append(f"{what} ends in {pair.days_left(now):.0f} days")
            report.facts.append(("certificate ends", f"{pair.valid_until:%Y-%m-%d} ({certificate})"))
    _check_exposure(f"{section}.key", key, report)
    if tls.client_ca:
        _check_callers(section, tls.client_ca, tls.crl, report)


def _check_callers(section: str, client_ca: str, crl: str, report: Report) -> None:
    """The CAs of callers, and the list of certificates that are taken back."""
    path = Path(client_ca).expanduser()
    with report.collecting():
        for one in load_certificates(read_file(path, f"{section}.client_ca"), f"{section}.client_ca: {path}"):
            if one.not_valid_after_utc <= utc_now():
                report.config.append(
                    f"{section}.client_ca: {one.subject.rfc4514_string()} in {path} ended on "
                    f"{one.not_valid_after_utc:%Y-%m-%d}"
                )
        if crl:
            revoked = read_revoked(Path(crl).expanduser(), path, section)
            report.facts.append(("revoked certificates", f"{len(revoked)} in {crl}"))
        else:
            report.warnings.append(f"{section}.crl: not set, so no certificate can be revoked")


def _check_exposure(key: str, path: Path, report: Report) -> None:
    if why := exposure(path):
        report.warnings.append(f"{key}: {path} {why}")


def _check_addresses(listen: str | None, metrics: str | None, report: Report) -> None:
    """Whether this machine lets a server listen there."""
    if listen and listen == metrics and not listen.endswith(":0"):
        report.config.append(f"metrics: {metrics} is the address of `listen` too")
    for key, address in (("listen", listen), ("metrics", metrics)):
        if address is None:
            continue
        if address.startswith(UNIX):
            with report.collecting():
                check_socket_file(Path(address.removeprefix(UNIX)))
            continue
        try:
            host, port = split_host_port(address)
            family, *_, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(target)
                probe.listen(1)
        except OSError as error:
            what = f"{key}: cannot listen on {address}: {error.strerror or error}"
            taken = error.errno == errno.EADDRINUSE  # by the server that runs, it may be
            (report.warnings if taken else report.config).append(what)
        except (OverflowError, ValueError):
            continue  # no such port, which the configuration's own check tells


def _check_models(config: CloudConfig, report: Report) -> None:
    models, repository = config.models, Repository(config.models.repository_path)
    wanted = models.load or repository.names()
    if not wanted:
        report.config.append(f"models.repository: {repository.root} has no <name>/<version>/{MODEL_FILE}")
    before = len(report.config)
    with report.collecting():
        check_providers(config.session, "session")
    if len(report.config) > before:
        return  # no model would load
    trials = Trials()
    for one in wanted:
        name, _, version = one.partition("@")
        with report.collecting():
            try:
                entry = repository.find(name, version)
            except NotFoundError as error:
                raise ConfigError(f"models.load: {error} ({repository.root})") from error
            try:
                opened = trials.open(entry, load_spec_of(entry, config))
            except ModelError as error:
                raise ModelError(f"models.repository: {repository.root}: {error}") from error
            if unused := opened.unused_batch_size(config.batching_of.get(name, config.batching)):
                key = f"batching_of.{name}" if name in config.batching_of else "batching"
                report.warnings.append(f"{key}: model {entry.model_id}: {unused}")
            kind = f"tensors, {opened.executor.device.value}"
            if opened.vision:
                manifest = opened.vision.manifest
                kind = f"{manifest.task}, {opened.executor.device.value}, sha256 {manifest.sha256[:12]}"
            report.facts.append((f"model {entry.model_id}", f"{kind}, {len(opened.tails)} tails"))
    report.config.extend(_faults_of_default(models, [one.partition("@")[0] for one in wanted]))
    for name in config.batching_of:
        if name not in repository.names():
            report.warnings.append(f"batching_of.{name}: the repository has no such model")


def _faults_of_default(models: ModelsConfig, names: list[str]) -> Iterator[str]:
    if models.default and models.default not in names:
        yield f"models.default: {models.default!r} is not among the loaded {sorted(set(names))}"


def _tell_figures(good: Mapping[str, Any], report: Report) -> None:
    """What follows from the configuration on this machine."""
    if "executor" in good:
        report.facts.append(("decode threads", str(good["executor"].workers or os.cpu_count() or 1)))
    if "stop_timeout_s" in good:
        limit_s = good["stop_timeout_s"]
        report.facts.append(("stop", f"{limit_s:g} s, of which {DRAINED * limit_s:g} s for calls in flight"))
    if "limits" in good:
        limits = good["limits"]
        allowed = allowed_descriptors()
        found = places(limits.max_connections, allowed)
        report.facts.append(("open files", f"{allowed} allowed, enough for {found.total} connections"))
        if found.total < limits.max_connections:
            report.warnings.append(too_few(limits.max_connections, found.total))
        with report.collecting():
            room = room_for(limits, machine_bytes())
            report.facts.append(("memory for calls", f"at most {room.memory_bytes >> 20} MiB"))
        each = most_decode_bytes(limits.max_pixels) >> 20
        report.facts.append(("memory for decoding", f"at most {each} MiB a thread"))
        no_video = fault_of_video() if limits.stream_bytes else "limits.stream_bytes is 0"
        streams = f"streams in at most {limits.stream_bytes >> 20} MiB"
        report.facts.append(("video", f"none: {no_video}" if no_video else streams))
