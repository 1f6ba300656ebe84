"""The settings of a training and of a sweep."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lstmfcn.metrics import MetricName, Mode, Objective
from lstmfcn.recipe import RecipeName
from lstmfcn.scaling import ScalingMethod
from lstmfcn.search import SearchName
from lstmfcn.tasks import TaskName
from lstmfcn.training import ClassWeight, TrainingPrecision, TrainingSettings
from lstmfcn.treatment import LengthTreatment, MissingTreatment, Treatment

SchedulerName: TypeAlias = Literal["asha", "median", "hyperband", "pbt", "none"]


class TrainingPlan(BaseModel):
    """Settings of the data and of each training, which jobs.train and jobs.tune have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: TaskName | None = Field(
        None,
        description="multiclass: one class of several. binary: one of two, from a single y column of 0 and 1"
        " or two labels in the first column. multilabel: any of several y columns of 0 and 1. By default"
        " binary for a single y column, multiclass for all else",
    )
    channels: int | None = Field(
        None,
        ge=1,
        description="Number of channels, one after the other in a row; by default as the header says, else 1",
    )
    missing: MissingTreatment = Field(
        "refuse",
        description="Refuse missing values, or interpolate them linearly; predictions do the same",
    )
    length: LengthTreatment = Field(
        "equal",
        description="equal: all series have one length. pad: shorter ones are normalised, then filled up with"
        " zeros. resample: all are interpolated onto the length of the longest. Predictions do the same",
    )
    scaling: ScalingMethod = Field(
        "series",
        description="Normalise each series by itself, or all by the mean and deviation of the training set",
    )
    recipe: RecipeName = Field(
        "reference",
        description="reference: a fixed learning rate. paper: as the paper's code; a single training keeps"
        " the epoch with the lowest train_loss. fast: takes a fraction of the time; the default of a sweep"
        " without --search-space. lr, batch_size and epochs that you give override the recipe",
    )
    class_weight: ClassWeight = Field(
        "none",
        description="balanced gives every class the same total weight in the training loss",
    )
    calibrate: bool = Field(
        False,
        description="Scale the probabilities to fit the validation data; a single network's labels stay the"
        " same",
    )
    precision: TrainingPrecision = Field(
        "fp32", description="fp32, or bf16: 16 bits for the training step, faster where the hardware has bf16"
    )
    seed: int = Field(
        0,
        ge=0,
        lt=2**32,
        description="The same seed gives the same network on the same machine with as many threads; of a"
        " sweep, also the same series held out and, but for a bayesian search, the same trials drawn",
    )

    @property
    def training(self) -> TrainingSettings:
        """How each network is trained."""
        return TrainingSettings(self.recipe, self.class_weight, self.seed, self.precision)

    @property
    def treatment(self) -> Treatment:
        """How the values in a row become a series."""
        return Treatment(channels=self.channels, missing=self.missing, length=self.length)


class Plan(TrainingPlan):
    """Settings of a sweep, with their defaults; each is a flag of jobs.tune."""

    num_trials: int | None = Field(
        None,
        ge=1,
        description="Networks to train; by default 8, or all points if those are more; with a grid,"
        " every combination",
    )
    search: SearchName = Field(
        "random",
        description="random; grid: every combination; bayesian: learns where good trials are",
    )
    scheduler: SchedulerName = Field(
        "asha",
        description="What stops trials that fall behind: asha or hyperband (successive halving), median"
        " (worse than half of the others, once three have come as far), none. Or pbt, which lets the worst"
        " go on as copies of the best with other lr, dropout and batch_size; the search space may then vary"
        " these only",
    )
    metric: MetricName = Field("valid_accuracy", description="What to compare epochs and trials by")
    mode: Mode | None = Field(None, description="max or min; by default max for an accuracy, min for a loss")
    target: float | None = Field(
        None, allow_inf_nan=False, description="End the sweep when the metric is as good as this"
    )
    time_budget: float | None = Field(None, gt=0, description="Seconds after which the sweep ends")
    max_concurrent_trials: int | None = Field(
        None,
        ge=1,
        description="Most trials that run at once; by default as many as fit. Not with hyperband or pbt",
    )
    cpus_per_trial: float = Field(
        1,
        ge=0.0001,
        allow_inf_nan=False,
        description="CPUs for each trial; whole ones are also its threads",
    )
    gpus_per_trial: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"] = Field(
        0.0,
        description="GPUs for each trial: a fraction shares one, several train with DataParallel; auto is the"
        " share of a GPU's memory that the search space's largest network needs. Without this flag trials"
        " run on CPUs, also where there are GPUs",
    )
    max_failures: int = Field(2, ge=0, description="Retries of a trial that failed or lost its process")
    ensemble: int = Field(
        1,
        ge=1,
        description="How many of the best trials to keep as one checkpoint, which averages their"
        " probabilities",
    )

    @property
    def objective(self) -> Objective:
        """Which of two trials is the better one."""
        return Objective.of(self.metric, self.mode)

    @property
    def known_gpus_per_trial(self) -> float:
        """GPUs for each trial, as a number; what auto stands for must be known already."""
        assert self.gpus_per_trial != "auto"
        return self.gpus_per_trial

    @model_validator(mode="after")
    def _gpus_can_be_shared(self) -> Plan:
        if self.gpus_per_trial == "auto":
            return self
        if self.gpus_per_trial > 1 and self.gpus_per_trial != int(self.gpus_per_trial):
            raise ValueError(
                f"--gpus-per-trial is {self.gpus_per_trial:g}; above 1 it must be a whole number"
            )
        return self
