"""A process of Ray Tune, which runs one trial of a sweep after the other.

It imports no more than it needs: short sweeps take hardly longer than their processes' imports.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from ray import tune

from lstmfcn import cluster
from lstmfcn.errors import ResourceError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.training import TrainingData
from lstmfcn.trial_run import TrialRun, TrialSettings
from lstmfcn.trials import TrialFolders

NUMBER = "number"
"""Key of a trial's number in its configuration in Tune, beside its hyperparameters."""


def hyperparameters_of(config: dict[str, Any]) -> Hyperparameters:
    """Return a trial's hyperparameters from its configuration in Tune."""
    return Hyperparameters(**{name: value for name, value in config.items() if name != NUMBER})


class TrialProcess(tune.Trainable):
    """One of Ray's processes, which runs one trial after the other.

    A trial is built when it is needed and not when the process is set to it: Tune doesn't retry what fails
    then.
    """

    def setup(  # type: ignore[override]  # with_parameters adds the others
        self, config: dict[str, Any], data: TrainingData, folders: TrialFolders, settings: TrialSettings
    ) -> None:
        cluster.set_up_worker()
        if refusal := folders.ownership.absence(cluster.node_address()):
            raise ResourceError(refusal)
        self._data, self._folders, self._settings = data, folders, settings
        self._run: TrialRun | None = None

    def current(self) -> TrialRun:
        """Return the trial that this process is set to; build it if that has not been done."""
        if self._run is None:
            config: dict[str, Any] = self.config
            self._number = config[NUMBER]  # kept, for Tune sets the next trial's before this one is left
            self._run = TrialRun(
                self._data,
                hyperparameters_of(config),
                self._folders.folder(self._number),
                self._settings,
                cluster.allotted_devices(),
            )
        return self._run

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        # An error of the trial that is left would fail the next one, which Tune doesn't retry. What can't be
        # written then are its last seconds.
        with suppress(OSError):
            self.cleanup()
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()
        return True

    def step(self) -> dict[str, Any]:
        return self.current().advance()

    def cleanup(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.leave(for_good=self._folders.has_ended(self._number))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save the trial for schedulers that pause it, or let another one go on as its copy."""
        self.current().save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]
        """Resume from what save_checkpoint saved."""
        self.current().restore(Path(checkpoint_dir))
