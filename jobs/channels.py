"""The training and the validation channel, read as flags or a checkpoint say."""

from __future__ import annotations

from lstmfcn.dataset import Dataset, read_further, read_labelled, read_training
from lstmfcn.errors import DataError
from lstmfcn.identifiers import Identifiers
from lstmfcn.plan import TrainingPlan
from lstmfcn.start import Start
from lstmfcn.storage import Location


def read_channels(
    training: Location,
    validation: Location | None,
    id_columns: str,
    plan: TrainingPlan,
    start: Start | None,
    *,
    new_classes: bool,
) -> tuple[Dataset, Dataset | None]:
    """Read the channels as the plan says or, where training starts from a checkpoint, as that does. With
    `new_classes` they may hold classes that the checkpoint doesn't know.

    Raises DataError and, for a plan that contradicts the checkpoint, HyperparameterError.
    """
    identifiers = Identifiers.parse(id_columns)
    if start is not None:
        start.refuse_other(plan.model_dump(include=plan.model_fields_set))
        train_set = read_further(training, start.checkpoint, identifiers, new_classes=new_classes)
    elif new_classes:
        raise DataError("--new-classes adds to a checkpoint's classes; add --checkpoint")
    else:
        train_set = read_training(training, plan.task, identifiers, plan.treatment)
    if validation is None:
        return train_set, None
    return train_set, read_labelled(validation, train_set, identifiers)
