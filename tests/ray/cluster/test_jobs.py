"""Jobs that are submitted to a cluster do what they do on one machine."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from lstmfcn.checkpoint import Checkpoint
from tests.ray.cluster.hosts import Hosts
from tests.ray.cluster.work import (
    Leaderboard,
    Outputs,
    Submitted,
    Work,
    leaderboard,
    num_parts,
    num_trials,
    outputs,
    run_locally,
)


def test_a_submitted_transform_gives_the_bytes_of_a_local_one(
    nodes: Hosts, work: Work, transformed: Outputs, output: Path
) -> None:
    job = Submitted(nodes, work.transform(output))

    assert job.wait(120) == 0, job.log

    assert job.state() == "SUCCEEDED"
    assert outputs(output) == transformed


def test_a_submitted_sweep_gives_the_leaderboard_of_a_local_one(
    nodes: Hosts, work: Work, swept: Leaderboard, output: Path
) -> None:
    job = Submitted(nodes, work.tune(output))

    assert job.wait(180) == 0, job.log

    assert job.state() == "SUCCEEDED"
    assert leaderboard(output) == swept


def test_a_submitted_training_gives_the_network_of_a_local_one_computed_on_a_worker(
    nodes: Hosts, work: Work, output: Path
) -> None:
    run_locally(nodes, work.train(output.with_name("local-training"), epochs=5))
    job = Submitted(nodes, work.train(output, epochs=5))

    assert job.wait(120) == 0, job.log

    local = Checkpoint.load(output.with_name("local-training"))
    assert Checkpoint.load(output).digest() == local.digest()
    assert "best epoch: " in job.log
    assert "train:loss " in job.log
    assert job.nodes_of_actors() in ({nodes.first.address}, {nodes.second.address})


def test_a_submitted_evaluation_gives_the_scores_of_a_local_one(
    nodes: Hosts, work: Work, output: Path
) -> None:
    run_locally(nodes, work.evaluate(output.with_name("local-scores")))
    job = Submitted(nodes, [*work.evaluate(output), "--json"])

    assert job.wait(120) == 0, job.log

    local = json.loads((output.with_name("local-scores") / "evaluation.json").read_bytes())
    assert json.loads((output / "evaluation.json").read_bytes()) == local
    assert [line for line in job.log.splitlines() if line.startswith("{")] != []


def test_a_submitted_explanation_gives_the_table_of_a_local_one(
    nodes: Hosts, work: Work, output: Path
) -> None:
    run_locally(nodes, work.explain(output.with_name("local-explanation")))
    job = Submitted(nodes, work.explain(output))

    assert job.wait(120) == 0, job.log

    local, there = (
        list(csv.reader((folder / "explanation.csv").read_text().splitlines()))
        for folder in (output.with_name("local-explanation"), output)
    )
    assert there == local


def test_a_stopped_sweep_goes_on_to_the_same_leaderboard(
    nodes: Hosts, work: Work, swept: Leaderboard, output: Path
) -> None:
    job = Submitted(nodes, work.tune(output))
    job.wait_until(lambda: num_trials(output) > 0)

    job.stop()

    job.wait(90)
    assert job.state() == "STOPPED"
    assert (output / "leaderboard.csv").exists()
    again = Submitted(nodes, [*work.tune(output), "--resume"])
    assert again.wait(180) == 0, again.log
    assert leaderboard(output) == swept


def test_a_stopped_transform_goes_on_to_the_same_bytes(
    nodes: Hosts, work: Work, transformed: Outputs, output: Path
) -> None:
    job = Submitted(nodes, work.transform(output))
    job.wait_until(lambda: num_parts(output) > 0)
    for worker in (nodes.first, nodes.second):  # else it may be done before `ray job stop` has begun
        for process in worker.processes():
            if "MapWorker" in process.name():
                process.suspend()

    job.stop()

    job.wait(90)
    assert job.state() == "STOPPED"
    assert f"{output} keeps what is done; the same command with --resume goes on" in job.log
    again = Submitted(nodes, [*work.transform(output), "--resume"])
    assert again.wait(120) == 0, again.log
    assert outputs(output) == transformed


def test_a_stopped_training_keeps_its_best_epoch_and_goes_on(nodes: Hosts, work: Work, output: Path) -> None:
    job = Submitted(nodes, work.train(output, epochs=100_000))
    job.wait_until((output / "checkpoint.json").exists)

    job.stop()

    job.wait(90)
    assert job.state() == "STOPPED"
    assert "best epoch: " in job.log
    done = len((output / "metrics.csv").read_text().splitlines()) - 1
    again = Submitted(nodes, [*work.train(output, epochs=done + 2), "--resume"])
    assert again.wait(120) == 0, again.log
    assert len((output / "metrics.csv").read_text().splitlines()) - 1 == done + 2


@pytest.mark.parametrize("job", ["train", "transform", "tune"])
def test_a_path_of_another_machine_is_one_sentence_and_a_failed_job(
    job: str, nodes: Hosts, work: Work, output: Path
) -> None:
    commands = {
        "train": work.train(output, epochs=2),
        "tune": work.tune(output),
        "transform": work.transform(output),
    }
    elsewhere = [word.replace(str(work.folder), "/home/me") for word in commands[job]]
    submitted = Submitted(nodes, elsewhere)

    assert submitted.wait(90) == 1

    assert submitted.state() == "FAILED"
    assert "; on a cluster it must lie where all nodes see it" in submitted.log
    assert "Traceback" not in submitted.log


def test_what_is_asked_for_and_not_there_is_one_sentence(nodes: Hosts, work: Work, output: Path) -> None:
    job = Submitted(nodes, [*work.train(output, epochs=2), "--num-gpus", "1"])

    assert job.wait(90) == 1

    assert "jobs.train asks for 1 CPU and 1 GPU; the nodes have " in job.log
    assert "Traceback" not in job.log
