"""An endpoint's replica without Serve around it: keys, faults, other checkpoints, its log."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import re
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from botocore.exceptions import ClientError

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.ensemble import AnyCheckpoint, load_checkpoint
from lstmfcn.errors import CheckpointError
from lstmfcn.predictor import Predictor
from lstmfcn.series import Matrix, parse_series
from lstmfcn.storage import Location
from lstmfcn.treatment import UNTREATED, LengthTreatment, Treatment
from serve_app import app
from serve_app.access import VARIABLE
from serve_app.app import build_app
from serve_app.model import Model
from serve_app.settings import Settings
from tests.ray.replica import (
    KEY,
    ROW,
    application,
    boto3_client,
    client_of,
    listening,
    make_endpoint,
    replica,
)
from tests.samples import (
    LENGTH,
    best_of,
    make_channels,
    make_dataset,
    write_csv,
    write_gappy_csv,
    write_named_csv,
)

pytestmark = pytest.mark.usefixtures("cluster", "no_worker")


def test_with_keys_all_but_ping_asks_for_one(checkpoint_folder: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY + "\n")

    async def ask() -> list[int]:
        async with replica(checkpoint_folder, api_keys=str(keys)) as (_, client):
            answers = [
                await client.get("/ping"),
                await client.get("/model"),
                await client.post("/invocations", content=ROW),
                await client.post("/endpoints/a/invocations", content=ROW),
                await client.post("/invocations", content=ROW, headers={"X-Api-Key": KEY}),
            ]
        return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [200, 401, 401, 403, 200]


def test_the_documented_hook_gives_boto3_a_key(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = (Path(__file__).parent.parent.parent / "README.md").read_text()
    (hook,) = re.findall(r"```python\n(def add_key.*?)```", document, re.DOTALL)
    monkeypatch.setenv(VARIABLE, KEY)

    def ask(url: str) -> bytes:
        client = boto3_client(url)
        request = {"EndpointName": "any", "ContentType": "text/csv", "Body": ROW}
        with pytest.raises(ClientError, match="an API key is needed") as refused:
            client.invoke_endpoint(**request)
        assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
        exec(hook, {"client": client, "key": KEY})  # noqa: S102
        answer: bytes = client.invoke_endpoint(**request)["Body"].read()
        return answer

    async def serve_and_ask() -> bytes:
        async with replica(checkpoint_folder) as (endpoint, _), listening(application(endpoint)) as url:
            return await asyncio.to_thread(ask, url)

    assert asyncio.run(serve_and_ask()) == Predictor.load(checkpoint_folder).predict_csv(
        ROW.encode(), source="row"
    )


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/invocations", "the endpoint failed"),
        ("/endpoints/a/invocations", '{"Message":"the endpoint failed'),
    ],
)
def test_a_fault_of_its_own_is_a_500_in_the_callers_form(
    path: str, shown: str, checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Matrix) -> Any:
        raise MemoryError

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        async with replica(checkpoint_folder) as (endpoint, client):
            assert endpoint._model is not None
            with monkeypatch.context() as patch:
                patch.setattr(endpoint._model.batcher, "_predict", fail)
                failed = await client.post(path, content=ROW)
            return failed, await client.post(path, content=ROW)

    failed, next_one = asyncio.run(ask())

    assert (failed.status_code, next_one.status_code) == (500, 200)
    assert failed.text.startswith(shown)


@pytest.mark.parametrize(
    ("failure", "is_fatal"), [("an illegal memory access was encountered", True), ("out of memory", False)]
)
def test_a_replica_whose_gpu_has_failed_asks_to_be_replaced(
    failure: str, is_fatal: bool, checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Matrix) -> Matrix:
        raise torch.AcceleratorError(f"CUDA error: {failure}")

    async def ask() -> list[httpx.Response]:
        async with replica(checkpoint_folder) as (endpoint, client):
            assert endpoint._model is not None
            endpoint.check_health()
            monkeypatch.setattr(endpoint._model.batcher, "_predict", fail)
            answers = [await client.post("/invocations", content=ROW), await client.get("/ping")]
            with pytest.raises(RuntimeError, match=r"^the GPU has failed") if is_fatal else nullcontext():
                endpoint.check_health()
            return answers

    assert [answer.status_code for answer in asyncio.run(ask())] == [500, 503 if is_fatal else 200]


def test_it_computes_in_the_precision_that_it_is_asked_for(
    checkpoint_folder: Path, trained: Checkpoint
) -> None:
    async def ask() -> httpx.Response:
        async with replica(checkpoint_folder, precision="bf16") as (_, client):
            return await client.post("/invocations?columns=probabilities", content=ROW)

    answered = asyncio.run(ask()).text

    series = parse_series(ROW.encode(), source="row")
    in_bf16, in_fp32 = (
        ",".join(map(str, Predictor(trained, precision=precision).probabilities(series)[0])) + "\n"
        for precision in ("bf16", "fp32")
    )
    assert answered == in_bf16 != in_fp32


def test_it_answers_the_columns_that_it_is_told_unless_the_request_names_others(
    checkpoint_folder: Path, trained: Checkpoint
) -> None:
    async def ask() -> list[str]:
        async with replica(checkpoint_folder, columns="label,probabilities") as (_, client):
            paths = ("/invocations", "/invocations?columns=label")
            return [(await client.post(path, content=ROW)).text for path in paths]

    predictor, series = Predictor(trained), parse_series(ROW.encode(), source="row")
    assert asyncio.run(ask()) == [
        predictor.answer(predictor.probabilities(series), columns, with_header=False).decode()
        for columns in (("label", "probabilities"), ("label",))
    ]


def test_another_checkpoint_serves_from_the_next_request_on(checkpoint_folder: Path, tmp_path: Path) -> None:
    best_of(make_dataset(20, seed=9)).save(tmp_path)
    probabilities = "/invocations?columns=probabilities"

    async def ask() -> list[str]:
        async with replica(checkpoint_folder) as (endpoint, client):
            before = await client.post(probabilities, content=ROW)
            await endpoint.reconfigure({"checkpoint": str(tmp_path)})
            after = await client.post(probabilities, content=ROW)
            model = await client.get("/model")
        return [before.text, after.text, model.json()["checkpoint"]]

    before, after, digest = asyncio.run(ask())

    assert before != after
    assert digest == Checkpoint.load(tmp_path).digest()


def test_the_last_checkpoint_that_was_deployed_serves_however_long_others_load(
    checkpoint_folder: Path, tmp_path: Path
) -> None:
    best_of(make_dataset(20, seed=9)).save(tmp_path)

    async def deployed_last() -> str:
        async with replica(checkpoint_folder) as (endpoint, client):
            load, first_may_go_on = endpoint._load, threading.Event()

            def load_slowly(path: str) -> Model:
                if path == str(checkpoint_folder):
                    first_may_go_on.wait(5)
                return load(path)

            endpoint._load = load_slowly  # type: ignore[method-assign]
            first = asyncio.create_task(
                endpoint.reconfigure({"checkpoint": str(checkpoint_folder), "digest": "another"})
            )
            second = asyncio.create_task(endpoint.reconfigure({"checkpoint": str(tmp_path)}))
            await asyncio.sleep(0.1)
            first_may_go_on.set()
            await asyncio.gather(first, second)
            return str((await client.get("/model")).json()["checkpoint"])

    assert asyncio.run(deployed_last()) == Checkpoint.load(tmp_path).digest()


def test_what_is_configured_already_is_not_loaded_again(checkpoint_folder: Path) -> None:
    async def served() -> list[Model | None]:
        async with replica(checkpoint_folder) as (endpoint, _):
            before = endpoint._model
            await endpoint.reconfigure({"checkpoint": str(checkpoint_folder)})
            return [before, endpoint._model]

    before, after = asyncio.run(served())

    assert before is after is not None


@pytest.mark.parametrize("length", ["pad", "resample"])
@pytest.mark.parametrize("named", [False, True])
def test_rows_are_treated_as_the_checkpoint_has_it(
    length: LengthTreatment, named: bool, trained: Checkpoint, checkpoint_folder: Path, tmp_path: Path
) -> None:
    treated = replace(trained, treatment=Treatment(missing="interpolate", length=length))
    treated.save(tmp_path / "model")
    path = write_gappy_csv(tmp_path / "data.csv", make_dataset(30, seed=3), labelled=False, named=named)
    body = path.read_bytes()
    header = body.splitlines(keepends=True)[: int(named)]
    rows = body.splitlines(keepends=True)[int(named) :]

    async def ask() -> tuple[list[httpx.Response], dict[str, Any]]:
        async with replica(checkpoint_folder) as (endpoint, client):
            bodies = [body, *[b"".join([*header, row]) for row in rows], b"".join([*header, b"," * 11])]
            before = await client.post("/invocations", content=body)
            await endpoint.reconfigure({"checkpoint": str(tmp_path / "model")})
            answers = [await client.post("/invocations", content=one) for one in bodies]
            return [before, *answers], (await client.get("/model")).json()

    (before, whole, *one_by_one, empty), model = asyncio.run(ask())

    assert before.status_code == empty.status_code == 400
    assert empty.text == f"body: row {1 + named} has no values; a series has at least 2\n"
    assert whole.content == Predictor(treated).predict_csv(body, source="body")
    lines = whole.content.splitlines(keepends=True)
    assert [answer.content for answer in one_by_one] == [
        b"".join([*lines[: int(named)], line]) for line in lines[int(named) :]
    ]
    assert model["treatment"] == {"missing": "interpolate", "length": length}


def test_a_checkpoint_that_will_not_do_is_refused_and_the_former_serves_on(
    checkpoint_folder: Path, tmp_path: Path
) -> None:
    shorter = make_dataset(20)
    shorter = type(shorter)(shorter.series[:, :-1], shorter.targets, shorter.classes)
    best_of(shorter).save(tmp_path / "shorter")

    async def ask() -> list[tuple[str, str]]:
        answers = []
        async with replica(checkpoint_folder) as (endpoint, client):
            for name in ("shorter", "missing"):
                await endpoint.reconfigure({"checkpoint": str(tmp_path / name)})
                answer = await client.post("/invocations", content=ROW)
                answers.append((answer.text, (await client.get("/model")).json()["refused"]))
            await endpoint.reconfigure({"checkpoint": str(checkpoint_folder)})
            assert "refused" not in (await client.get("/model")).json()
        return answers

    expected = Predictor.load(checkpoint_folder).predict_csv(ROW.encode(), source="row").decode()
    length = LENGTH - 1
    assert asyncio.run(ask()) == [
        (
            expected,
            f"{tmp_path / 'shorter'} expects series of length {length}; the endpoint serves length {LENGTH}",
        ),
        (expected, f"{tmp_path / 'missing'} is not a checkpoint: it has no checkpoint.json"),
    ]


def test_a_checkpoint_that_can_not_be_read_for_a_moment_is_read_again(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_PAUSES", (0.0, 0.0))
    attempts = []

    def fail_twice(folder: Location) -> AnyCheckpoint:
        attempts.append(folder)
        if len(attempts) < 3:
            raise OSError(errno.EIO, "the disk is away")
        return load_checkpoint(folder)

    monkeypatch.setattr(app, "load_checkpoint", fail_twice)
    endpoint = make_endpoint(checkpoint_folder)
    asyncio.run(endpoint.reconfigure({"checkpoint": str(checkpoint_folder)}))

    assert len(attempts) == 3
    assert endpoint._refused == ""


def test_a_first_checkpoint_that_will_not_do_is_an_error(tmp_path: Path) -> None:
    endpoint = make_endpoint(tmp_path)

    with pytest.raises(CheckpointError, match=r"is not a checkpoint: it has no checkpoint.json$"):
        asyncio.run(endpoint.reconfigure({"checkpoint": str(tmp_path)}))


def test_a_new_replica_serves_what_was_deployed_when_the_configured_checkpoint_will_not_do(
    checkpoint_folder: Path, tmp_path: Path
) -> None:
    async def ask() -> tuple[str, str]:
        endpoint = make_endpoint(checkpoint_folder)
        await endpoint.reconfigure({"checkpoint": str(tmp_path)})
        async with client_of(endpoint) as client:
            model = (await client.get("/model")).json()
        return model["checkpoint"], model["refused"]

    assert asyncio.run(ask()) == (
        Checkpoint.load(checkpoint_folder).digest(),
        f"{tmp_path} is not a checkpoint: it has no checkpoint.json",
    )


def test_series_of_several_channels_are_answered_in_both_formats_and_others_refused(
    trained_channels: Checkpoint, checkpoint_folder: Path, tmp_path: Path
) -> None:
    trained_channels.save(tmp_path / "model")
    dataset = make_channels(5, seed=3)
    plain = write_csv(tmp_path / "plain.csv", dataset, labelled=False).read_bytes()
    named = write_named_csv(tmp_path / "named.csv", dataset, labelled=False, seed=0).read_bytes()
    other = write_named_csv(
        tmp_path / "other.csv", replace(dataset, treatment=UNTREATED), labelled=False
    ).read_bytes()

    quoted = b'"' + plain.replace(b",", b'",', 1)  # which only the slow engine reads
    half = plain.splitlines()[0].rpartition(b",")[0] + b"\n"

    async def ask() -> tuple[list[httpx.Response], dict[str, Any]]:
        async with replica(tmp_path / "model", channels=3) as (endpoint, client):
            await endpoint.reconfigure({"checkpoint": str(checkpoint_folder)})
            bodies = (plain, named, other, quoted, half)
            answers = [await client.post("/invocations", content=body) for body in bodies]
            return answers, (await client.get("/model")).json()

    (first, second, third, fourth, fifth), model = asyncio.run(ask())
    assert fourth.content == first.content
    assert (fifth.status_code, fifth.text) == (400, "body: row 1 has 35 columns where 36 are expected\n")
    predictor = Predictor(trained_channels)
    assert first.content == predictor.predict_csv(plain, source="body")
    assert second.content == predictor.predict_csv(named, source="body")
    assert third.status_code == 400
    assert third.text.startswith("body: row 1 is a header of 1 channel where 3 are expected")
    assert (model["length"], model["channels"]) == (LENGTH, 3)
    assert model["refused"] == f"{checkpoint_folder} expects series of 1 channel; the endpoint serves 3"


def test_without_a_configuration_the_deployed_checkpoint_is_served(checkpoint_folder: Path) -> None:
    async def ask() -> int:
        endpoint = make_endpoint(checkpoint_folder)
        await endpoint.reconfigure({})
        async with client_of(endpoint) as client:
            return (await client.post("/invocations", content=ROW)).status_code

    assert asyncio.run(ask()) == 200


def test_a_configuration_with_a_typo_is_refused_and_the_former_serves_on(checkpoint_folder: Path) -> None:
    async def ask() -> tuple[int, str]:
        async with replica(checkpoint_folder) as (endpoint, client):
            await endpoint.reconfigure({"chekpoint": str(checkpoint_folder)})
            answer = await client.post("/invocations", content=ROW)
            return answer.status_code, (await client.get("/model")).json()["refused"]

    status, refused = asyncio.run(ask())

    assert status == 200
    assert "chekpoint" in refused


def test_a_route_prefix_comes_before_the_paths(checkpoint_folder: Path) -> None:
    async def ask() -> int:
        async with replica(checkpoint_folder) as (endpoint, _), client_of(endpoint, "/ecg") as client:
            return (await client.post("/ecg/invocations", content=ROW)).status_code

    assert asyncio.run(ask()) == 200


def test_every_request_is_in_the_access_log_without_its_body_and_its_key(
    checkpoint_folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = KEY[::-1]

    async def ask() -> None:
        async with replica(checkpoint_folder) as (endpoint, client):
            requests = [(ROW * 3, {"X-Api-Key": KEY}), ("secret", {"Authorization": f"Bearer {KEY}"})]
            requests += [(ROW, {"X-Api-Key": wrong}), (ROW, {"Authorization": f"Bearer {wrong}"})]
            for number, (body, headers) in enumerate(requests):
                request_id = {"X-Request-Id": str(number)}
                await client.post("/invocations?columns=label", content=body, headers=headers | request_id)
            assert endpoint._model is not None
            monkeypatch.setattr(endpoint._model.batcher, "_predict", None)  # for a fault's traceback
            await client.post("/invocations", content=ROW, headers={"X-Api-Key": KEY, "X-Request-Id": "4"})
            await asyncio.sleep(0)  # a request is told of after its answer
            endpoint._observer.report()

    monkeypatch.setenv(VARIABLE, KEY)
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)
    with caplog.at_level(logging.DEBUG):
        asyncio.run(ask())

    _, *lines = caplog.messages[-1].splitlines()
    logged = [json.loads(line) for line in lines]
    names = ("request_id", "method", "path", "status", "reason", "rows")
    assert [tuple(line[name] for name in names) for line in logged] == [
        ("0", "POST", "/invocations", 200, "", 3),
        ("1", "POST", "/invocations", 400, "Bad Request", 0),
        ("2", "POST", "/invocations", 401, "Unauthorized", 0),
        ("3", "POST", "/invocations", 401, "Unauthorized", 0),
        ("4", "POST", "/invocations", 500, "Internal Server Error", 0),
    ]
    assert "request 4 failed" in caplog.text
    for hidden in (KEY, wrong, "secret", ROW.strip()):
        assert hidden not in caplog.text


def test_settings_become_serves_configuration(checkpoint_folder: Path, trained: Checkpoint) -> None:
    read = Settings(
        checkpoint=str(checkpoint_folder), gpus_per_replica=0.25, replicas=2, max_replicas=5, max_requests=10
    )

    deployment = build_app(read)._bound_deployment

    config = deployment._deployment_config
    assert config.autoscaling_config is not None
    assert (config.autoscaling_config.min_replicas, config.autoscaling_config.max_replicas) == (2, 5)
    assert (config.max_ongoing_requests, config.max_queued_requests) == (40, 40)
    assert config.max_surge_percent == 100
    assert config.user_config == {"checkpoint": str(checkpoint_folder), "digest": trained.digest()}
    assert deployment.ray_actor_options is not None
    assert deployment.ray_actor_options["num_gpus"] == 0.25
