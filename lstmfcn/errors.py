"""What can be wrong: each error is one sentence naming the thing, the value and what would be right."""


class LSTMFCNError(ValueError):
    """Something the user gave can't be used. Jobs print the sentence and exit with status 2."""


class HyperparameterError(LSTMFCNError):
    """A hyperparameter or search space is unknown or out of its limits."""


class DataError(LSTMFCNError):
    """Data, or what a flag says of it, can't be used."""


class CheckpointError(LSTMFCNError):
    """A directory isn't a checkpoint that this version can read."""


class MissingError(LSTMFCNError):
    """Something isn't there, perhaps because it lies on another machine."""


class MissingDataError(MissingError, DataError):
    """There is no such file or folder."""


class ForbiddenDataError(DataError):
    """A file is there and may not be read."""


class MissingCheckpointError(MissingError, CheckpointError):
    """There is no checkpoint in a directory."""


class OutputError(LSTMFCNError):
    """An output folder already holds something, or a job has nowhere to write."""


class LocationError(LSTMFCNError):
    """A path or URI can't be used."""


class ResourceError(LSTMFCNError):
    """CPUs, GPUs, a cluster, a port or other means to compute are missing or not as they are needed."""


class TrainingError(RuntimeError):
    """A run can't go on, for a reason that lies in itself and not in its input. Jobs exit with status 1."""


_SIGNS_OF_FULL_MEMORY = (
    "allocate memory",
    "out of memory",
    "MemoryError",
    "STATUS_ALLOC_FAILED",
    "NODE_OUT_OF_MEMORY",
    "running low on memory",
)
"""Parts of errors of a full memory; MemoryError is in the names of PyTorch's and NumPy's own, too, and
STATUS_ALLOC_FAILED in cuBLAS's and cuDNN's, when they find no room on a GPU for what they need to start."""


def is_of_full_memory(text: str) -> bool:
    """Return whether an error's text with its type, such as its repr or a traceback, says that a machine's or
    a GPU's memory is full.
    """
    return any(sign in text for sign in _SIGNS_OF_FULL_MEMORY)


def shown(text: str) -> str:
    """Return a text from a file as such a sentence shows it: quoted and cut short."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1."""
    return f"{count} {noun}{'s' * (count != 1)}"
