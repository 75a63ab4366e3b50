"""Triton's own client, unchanged, against this server: sync, asyncio and streaming."""

import asyncio
import queue

import numpy as np
import pytest
from onnx import TensorProto

from tests.support.models import colour_classifier, identity
from tests.support.serving import CALL_S, cloud_config, serving
from tests.support.triton import triton, triton_aio

ELEMENTS = {
    "BOOL": (TensorProto.BOOL, np.array([[True, False, True, True]])),
    "UINT8": (TensorProto.UINT8, np.array([[0, 1, 254, 255]], np.uint8)),
    "UINT16": (TensorProto.UINT16, np.array([[0, 1, 2, 65535]], np.uint16)),
    "UINT32": (TensorProto.UINT32, np.array([[0, 1, 2, 2**32 - 1]], np.uint32)),
    "UINT64": (TensorProto.UINT64, np.array([[0, 1, 2, 2**64 - 1]], np.uint64)),
    "INT8": (TensorProto.INT8, np.array([[-128, 0, 1, 127]], np.int8)),
    "INT16": (TensorProto.INT16, np.array([[-32768, 0, 1, 32767]], np.int16)),
    "INT32": (TensorProto.INT32, np.array([[-(2**31), 0, 1, 2**31 - 1]], np.int32)),
    "INT64": (TensorProto.INT64, np.array([[-(2**63), 0, 1, 2**63 - 1]], np.int64)),
    "FP16": (TensorProto.FLOAT16, np.array([[-1.5, 0, 1, 65504]], np.float16)),
    "FP32": (TensorProto.FLOAT, np.array([[-1.5, 0, 1, 3e38]], np.float32)),
    "FP64": (TensorProto.DOUBLE, np.array([[-1.5, 0, 1, 1e308]], np.float64)),
    "BYTES": (
        TensorProto.STRING,
        np.array([[b"", b"a", "Gr\u00fc\u00dfe".encode(), b"x" * 1000]], np.object_),
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with one identity model for each datatype, and a vision model."""
    repository = tmp_path_factory.mktemp("repository")
    for datatype, (element, _) in ELEMENTS.items():
        identity(repository, f"identity_{datatype}", element=element)
    identity(repository, "unloaded")
    colour_classifier(repository)
    load = [f"identity_{datatype}" for datatype in ELEMENTS] + ["colour"]
    with serving(cloud_config(repository, models={"repository": str(repository), "load": load})) as running:
        yield running


@pytest.fixture
def client(server):
    """Triton's blocking client."""
    with triton.InferenceServerClient(server.address) as client:
        yield client


def _input(array: np.ndarray, datatype: str = "FP32", name: str = "INPUT0"):
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


@pytest.mark.parametrize("datatype", ELEMENTS)
def test_every_datatype_comes_back_as_it_went(client, datatype):
    """An identity network gives back each datatype's extreme values bit by bit, BYTES included."""
    array = ELEMENTS[datatype][1]
    result = client.infer(
        f"identity_{datatype}", [_input(array, datatype)], request_id="7", client_timeout=CALL_S
    )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)
    assert result.get_response().id == "7"
    assert result.get_output("OUTPUT0").datatype == datatype


def test_the_server_describes_itself(client):
    """Live, ready, and a metadata answer that announces the extensions that are served."""
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata.name == "spillover"
    assert {"model_repository", "model_configuration", "statistics"} <= set(metadata.extensions)


def test_a_model_describes_itself(client):
    """Metadata has the batch axis; the configuration has it as max_batch_size and not in dims."""
    metadata = client.get_model_metadata("identity_FP32")
    assert (metadata.platform, list(metadata.versions)) == ("onnxruntime_onnx", ["1"])
    assert [(one.name, one.datatype, list(one.shape)) for one in metadata.inputs] == [
        ("INPUT0", "FP32", [-1, 4])
    ]
    config = client.get_model_config("identity_BYTES", as_json=True)["config"]
    assert config["max_batch_size"] == 8
    assert config["backend"] == "onnxruntime"
    assert config["input"] == [{"name": "INPUT0", "data_type": "TYPE_STRING", "dims": ["4"]}]
    assert "dynamic_batching" in config


def test_a_vision_model_is_served_as_tensors_too(client):
    """What takes pictures in our own service takes prepared tensors here."""
    red = np.zeros((1, 3, 16, 16), np.float32)
    red[:, 0] = 1
    result = client.infer("colour", [_input(red, name="image")], client_timeout=CALL_S)
    assert result.as_numpy("logits").argmax() == 0


def test_readiness_of_models(client):
    """A loaded model is ready; an unknown one, or version, is not, and that is no error."""
    assert client.is_model_ready("colour")
    assert not client.is_model_ready("nobody")
    assert not client.is_model_ready("colour", "9")


def test_models_are_loaded_and_unloaded_on_request(client):
    """The repository index follows load and unload, and an unloaded model is NOT_FOUND."""
    states = {one.name: one.state for one in client.get_model_repository_index().models}
    assert (states["colour"], states["unloaded"]) == ("READY", "UNAVAILABLE")
    client.load_model("unloaded")
    assert client.is_model_ready("unloaded")
    client.unload_model("unloaded")
    with pytest.raises(triton.InferenceServerException, match="not loaded") as refused:
        client.infer("unloaded", [_input(np.zeros((1, 4), np.float32))])
    assert refused.value.status() == "StatusCode.NOT_FOUND"


def test_statistics_count_requests_rows_and_runs(client):
    """Three rows in one request are one run of three."""
    before = client.get_inference_statistics("identity_INT16").model_stats[0]
    client.infer("identity_INT16", [_input(np.zeros((3, 4), np.int16), "INT16")], client_timeout=CALL_S)
    after = client.get_inference_statistics("identity_INT16").model_stats[0]
    assert after.inference_count - before.inference_count == 3
    assert after.execution_count - before.execution_count == 1
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert 3 in {batch.batch_size for batch in after.batch_stats}
    assert len(client.get_inference_statistics().model_stats) >= len(ELEMENTS)


def test_requested_outputs_and_parameters(client):
    """A named output is returned; priority, timeout and unknown parameters are accepted."""
    array = np.ones((2, 4), np.float32)
    result = client.infer(
        "identity_FP32",
        [_input(array)],
        outputs=[triton.InferRequestedOutput("OUTPUT0")],
        priority=1,
        timeout=30_000_000,
        parameters={"mine": "x"},
    )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)


WRONG = {
    "unknown input": ("identity_FP32", [("X", (1, 4), "FP32")], "INVALID_ARGUMENT", "'X' is unknown"),
    "no input": ("identity_FP32", [], "INVALID_ARGUMENT", "'INPUT0' is missing"),
    "wrong datatype": ("identity_FP32", [("INPUT0", (1, 4), "INT32")], "INVALID_ARGUMENT", "takes FP32"),
    "wrong shape": ("identity_FP32", [("INPUT0", (1, 5), "FP32")], "INVALID_ARGUMENT", "shape [1, 5]"),
    "no rows": ("identity_FP32", [("INPUT0", (0, 4), "FP32")], "INVALID_ARGUMENT", "rows"),
    "twice": ("identity_FP32", [("INPUT0", (1, 4), "FP32")] * 2, "INVALID_ARGUMENT", "comes twice"),
    "unknown model": ("nobody", [("INPUT0", (1, 4), "FP32")], "NOT_FOUND", "not loaded"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_tensors_are_the_senders_fault(client, case):
    """Each misfit has its status and a text that names it, and the model goes on answering."""
    model, tensors, status, text = WRONG[case]
    inputs = [
        _input(np.zeros(shape, np.int32 if datatype == "INT32" else np.float32), datatype, name)
        for name, shape, datatype in tensors
    ]
    with pytest.raises(triton.InferenceServerException) as refused:
        client.infer(model, inputs, client_timeout=CALL_S)
    assert refused.value.status() == f"StatusCode.{status}"
    assert text in refused.value.message()
    array = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(client.infer("identity_FP32", [_input(array)]).as_numpy("OUTPUT0"), array)


def test_a_stream_answers_in_order_and_survives_an_error(client):
    """Answers come in the order of the requests; a request that fails says so and the stream goes on."""
    answers: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(50):
        model = "nobody" if number == 20 else "identity_FP32"
        client.async_stream_infer(
            model,
            [_input(np.full((1, 4), number, np.float32))],
            request_id=str(number),
            enable_empty_final_response=True,
        )
    for number in range(50):
        result, error = answers.get(timeout=CALL_S)
        if number == 20:
            assert "not loaded" in error.message()
            continue
        assert error is None
        response = result.get_response()
        assert response.id == str(number)
        assert response.parameters["triton_final_response"].bool_param
        assert result.as_numpy("OUTPUT0")[0, 0] == number
    client.stop_stream()


def test_the_asyncio_client(server):
    """Many requests side by side on one asyncio client each get their own values back."""

    async def ask() -> None:
        async with triton_aio.InferenceServerClient(server.address) as client:

            async def one(number: int) -> None:
                array = np.full((1 + number % 3, 4), number, np.float32)
                result = await client.infer("identity_FP32", [_input(array)])
                np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)

            await asyncio.gather(*map(one, range(40)))
            assert await client.is_server_ready()

    asyncio.run(ask())


def test_shared_memory_is_unimplemented(client):
    """An extension that is not served says so, at registration and at inference."""
    with pytest.raises(triton.InferenceServerException) as refused:
        client.register_system_shared_memory("region", "/region", 64)
    assert refused.value.status() == "StatusCode.UNIMPLEMENTED"
    tensor = triton.InferInput("INPUT0", [1, 4], "FP32")
    tensor.set_shared_memory("region", 16)
    with pytest.raises(triton.InferenceServerException, match="shared_memory") as refused:
        client.infer("identity_FP32", [tensor], client_timeout=CALL_S)
    assert refused.value.status() == "StatusCode.UNIMPLEMENTED"


def test_classification_is_unimplemented(client):
    """Nobody who asks for classes gets numbers instead."""
    wanted = triton.InferRequestedOutput("OUTPUT0", class_count=2)
    with pytest.raises(triton.InferenceServerException, match="classification") as refused:
        client.infer("identity_FP32", [_input(np.ones((1, 4), np.float32))], outputs=[wanted])
    assert refused.value.status() == "StatusCode.UNIMPLEMENTED"
