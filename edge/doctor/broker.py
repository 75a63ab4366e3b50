"""Checks each MQTT broker: connects as the daemon does, under a name of its own, and publishes nothing."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue

from spillover.common.errors import ConfigError
from spillover.common.net.reload import secret_of
from spillover.edge.config import MqttConfig
from spillover.edge.doctor.case import Case
from spillover.edge.doctor.findings import Finding, failed, ok

LIMIT_S = 5.0


def check_broker(key: str, sink: MqttConfig, _case: Case) -> Iterator[Finding]:
    """The broker of one sink, which `key` names."""
    yield _check(key, sink)


def _check(key: str, sink: MqttConfig) -> Finding:
    address = f"{sink.host}:{sink.port}"
    try:
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion
    except ModuleNotFoundError as error:
        return failed("broker", f"{key}: kind mqtt needs `{error.name}`", "pip install paho-mqtt")
    answers: SimpleQueue[str] = SimpleQueue()
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"spillover-doctor-{secrets.token_hex(4)}",
        reconnect_on_failure=False,
    )
    client.connect_timeout = LIMIT_S
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.put(
        str(reason) if reason.is_failure else ""
    )
    client.on_disconnect = lambda _client, _data, _flags, reason, _properties: answers.put(str(reason))
    try:
        if sink.username:
            secret = secret_of(sink.password, sink.password_file, f"{key}.password_file")
            client.username_pw_set(sink.username, secret or None)
        if sink.ca:
            client.tls_set(ca_certs=str(Path(sink.ca).expanduser()))
        client.connect(sink.host, sink.port)
    except ConfigError as error:
        return failed("broker", str(error), "check the file, and that this user may read it")
    except (OSError, ValueError) as error:
        return failed(
            "broker", f"{key}: {address}: {error}", "check host, port, ca, and whether the broker runs"
        )
    client.loop_start()
    try:
        refusal = answers.get(timeout=LIMIT_S)
    except Empty:
        return failed(
            "broker", f"{key}: {address} takes connections and says nothing", "is it an MQTT broker?"
        )
    finally:
        client.on_disconnect = None
        client.disconnect()
        client.loop_stop()
        client.on_connect = None  # else the library's object and this one keep each other
    if refusal:
        return failed("broker", f"{key}: {address} refuses: {refusal}", "check username and password_file")
    return ok("broker", f"{address} accepts {sink.username or 'a client without a login'}")
