"""LSTM-FCN (Karim, Majumdar, Darabi and Chen, "LSTM Fully Convolutional Networks for Time Series
Classification", IEEE Access 2018, doi 10.1109/ACCESS.2017.2779939); for several channels MLSTM-FCN (Karim,
Majumdar, Darabi and Harford, "Multivariate LSTM-FCNs for Time Series Classification", arXiv 1801.04503).

Initialisation and batch normalisation follow the paper's published code, which is written in Keras.
Differences that are kept: the LSTM's gates use the sigmoid, where that code has Keras's hard sigmoid; and a
channel of zeros is a step like any other, where the multivariate code masks it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstmfcn.convolution import Convolution, in_bfloat16_on_cpu
from lstmfcn.hyperparameters import Hyperparameters

# Keras's momentum of 0.99 is the share of the old mean that is kept; PyTorch's is the share that is replaced.
BATCH_NORM_MOMENTUM = 0.01
"""Weight of a step's statistics in the running ones, as in the paper: it takes hundreds of steps to forget
the untrained network."""
_REDUCTION = 16


class RecurrentBlock(nn.Module):
    """LSTM layers, each followed by dropout, over the channels as time steps.

    This is the papers' "dimension shuffle": with C channels the LSTM sees C steps of `length` features and
    not `length` steps of C features; with one channel, it sees the whole series as one step.
    """

    def __init__(self, length: int, hyperparameters: Hyperparameters, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels
        sizes = [length] + [hyperparameters.hidden_size] * hyperparameters.num_layers
        layer = AttentionLSTM if hyperparameters.attention else LSTM
        self.layers = nn.ModuleList(layer(size_in, size_out) for size_in, size_out in pairwise(sizes))
        if channels == 1:
            for recurrent in self.layers:
                assert isinstance(recurrent, LSTM)
                recurrent.freeze_unused()
        self.dropout = nn.Dropout(hyperparameters.dropout)

    def forward(self, series: Tensor) -> Tensor:
        """(batch, channels * length) -> (batch, hidden)."""
        steps = torch.unflatten(series, 1, (self.channels, -1))
        *layers, last = self.layers
        for layer in layers:
            steps = self.dropout(layer(steps))
        features: Tensor = self.dropout(last(steps)[:, -1])
        return features


class LSTM(nn.LSTM):
    """An LSTM layer that begins with a state of zeros.

    Over a single step the zeros cancel the recurrent kernel and the forget gate, which then have no effect.
    """

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__(size_in, size_out)
        input_kernel, recurrent_kernel, input_bias, recurrent_bias = self.all_weights[0]
        nn.init.xavier_uniform_(input_kernel)
        nn.init.orthogonal_(recurrent_kernel)
        nn.init.zeros_(input_bias)
        nn.init.zeros_(recurrent_bias)
        _, forget_gate, _, _ = input_bias.chunk(4)
        nn.init.ones_(forget_gate)

    def forward(self, steps: Tensor) -> Tensor:  # type: ignore[override]
        """(batch, steps, size_in) -> states (batch, steps, hidden)."""
        states: list[Tensor] = []
        memory = None
        for gates in functional.linear(steps, self.gate_kernel(), self.gate_bias()).unbind(1):
            if states:
                gates = gates + functional.linear(states[-1], self.recurrent_kernel())  # noqa: PLW2901
            state, memory = _next_state(gates, memory)
            states.append(state)
        return torch.stack(states, dim=1)

    def freeze_unused(self) -> None:
        """Exclude from training what has no effect over a single step.

        DataParallel would give these weights gradients of zeros where a single device gives them none: a
        training could not be resumed on another number of devices, and their weights would decay.
        """
        self.recurrent_kernel().requires_grad_(False)

    def gate_kernel(self) -> Tensor:
        """Return the input kernel, (4 hidden, size_in): of the input, forget, cell and output gates."""
        input_kernel: Tensor = self.all_weights[0][0]
        return input_kernel

    def recurrent_kernel(self) -> Tensor:
        """Return the recurrent kernel, (4 hidden, hidden), of the gates in the same order."""
        recurrent_kernel: Tensor = self.all_weights[0][1]
        return recurrent_kernel

    def gate_bias(self) -> Tensor:
        """Return the bias, (4 hidden,), of the gates in the same order."""
        _, _, input_bias, recurrent_bias = self.all_weights[0]
        return input_bias + recurrent_bias


class AttentionLSTM(LSTM):
    """The attention LSTM of ALSTM-FCN, as in the papers' published code.

    Before each step its attention weighs all steps by a softmax, and their weighted sum, the context, goes
    into the gates too. Over a single step the weight is 1 and the context is the step itself: then the layer
    is an LSTM with two input kernels that are added, and the alignment's weights, kept for the sake of the
    published shape, are not trained.
    """

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__(size_in, size_out)
        self.attention_kernel = nn.Parameter(torch.empty(4 * size_out, size_in))
        self.alignment_kernel = nn.Parameter(torch.empty(size_out, size_in))
        self.alignment_recurrent_kernel = nn.Parameter(torch.empty(size_out, size_out))
        self.alignment_bias = nn.Parameter(torch.zeros(size_out))
        self.alignment_vector = nn.Parameter(torch.empty(1, size_out))
        for kernel in (self.attention_kernel, self.alignment_kernel, self.alignment_vector):
            nn.init.xavier_uniform_(kernel)
        nn.init.orthogonal_(self.alignment_recurrent_kernel)

    def forward(self, steps: Tensor) -> Tensor:  # type: ignore[override]
        """(batch, steps, size_in) -> states (batch, steps, hidden), as the LSTM."""
        if steps.shape[1] == 1:
            return super().forward(steps)
        alignment = functional.linear(steps, self.alignment_kernel, self.alignment_bias)
        states = [steps.new_zeros(len(steps), self.hidden_size)]
        memory = None
        for gates in functional.linear(steps, super().gate_kernel(), self.gate_bias()).unbind(1):
            of_state = functional.linear(states[-1], self.alignment_recurrent_kernel)
            scores = ((alignment + of_state.unsqueeze(1)).tanh() * self.alignment_vector).sum(dim=2)
            context = (scores.softmax(dim=1).unsqueeze(2) * steps).sum(dim=1)
            state, memory = _next_state(
                gates
                + functional.linear(states[-1], self.recurrent_kernel())
                + functional.linear(context, self.attention_kernel),
                memory,
            )
            states.append(state)
        return torch.stack(states[1:], dim=1)

    def freeze_unused(self) -> None:
        """Exclude from training what has no effect over a single step, the alignment among it."""
        super().freeze_unused()
        for name, parameter in self.named_parameters():
            if name.startswith("alignment"):
                parameter.requires_grad_(False)

    def gate_kernel(self) -> Tensor:
        """Return the sum of both input kernels, with which this layer is an LSTM over a single step."""
        return super().gate_kernel() + self.attention_kernel


def _next_state(gates: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gates (batch, 4 hidden) and the previous memory, or None for zeros -> state, memory (batch, hidden)."""
    into, forget, cell, out = gates.chunk(4, dim=1)
    added = into.sigmoid() * cell.tanh()
    memory = added if memory is None else forget.sigmoid() * memory + added
    return out.sigmoid() * memory.tanh(), memory


class ConvolutionalBlock(nn.Module):
    """Three layers of convolution, batch normalisation and ReLU, the first two with squeeze-and-excite where
    it is asked for; then the mean over time.
    """

    def __init__(self, hyperparameters: Hyperparameters, channels: int = 1) -> None:
        super().__init__()
        self.in_bfloat16 = False
        """Whether its layers train under autocast; the mean and the rest of the network stay float32."""
        h = hyperparameters
        self.channels = channels
        self.layers = nn.Sequential(
            _convolution(channels, h.filters_1, h.kernel_size_1),
            _convolution(h.filters_1, h.filters_2, h.kernel_size_2),
            _convolution(h.filters_2, h.filters_3, h.kernel_size_3),
        )
        if h.squeeze_excite:
            for layer, filters in zip(self.layers, (h.filters_1, h.filters_2), strict=False):
                assert isinstance(layer, nn.Sequential)
                layer.append(SqueezeExcite(filters))

    def forward(self, series: Tensor) -> Tensor:
        """(batch, channels * length) -> (batch, filters_3)."""
        channels = torch.unflatten(series, 1, (self.channels, -1))
        with torch.autocast(series.device.type, torch.bfloat16, enabled=self.in_bfloat16 and self.training):
            if in_bfloat16_on_cpu(series):
                # As images of height 1, channels last: batch normalisation takes five times as long on
                # series, and oneDNN copies them.
                channels = channels.unsqueeze(2)
            # (batch, filters_3, length), or (batch, filters_3, 1, length)
            features: Tensor = self.layers(channels)
        return features.mean(dim=-1, dtype=torch.float32).flatten(1)


class BatchNormalisation(nn.BatchNorm1d):
    """nn.BatchNorm1d that takes images too."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of dimensions."""


class SqueezeExcite(nn.Module):
    """Weighs each filter by the means of all (Hu, Shen and Sun, "Squeeze-and-Excitation Networks", arXiv
    1709.01507), without biases and with `_REDUCTION` times fewer units in between, as in MLSTM-FCN.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        units = max(1, filters // _REDUCTION)
        self.squeeze = nn.Linear(filters, units, bias=False)
        self.excite = nn.Linear(units, filters, bias=False)
        for linear in (self.squeeze, self.excite):
            if not linear.weight.is_meta:  # on a meta tensor it would import PyTorch's compiler
                nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """(batch, filters, length) or, as images, (batch, filters, 1, length) -> the same shape."""
        means = features.mean(dim=-1)
        weights: Tensor = self.excite(self.squeeze(means.flatten(1)).relu()).sigmoid()
        return features * weights.view_as(means).unsqueeze(-1)


class LSTMFCN(nn.Module):
    """The recurrent block beside the convolutional block, both concatenated into a linear layer."""

    def __init__(
        self, num_classes: int, length: int, hyperparameters: Hyperparameters, channels: int = 1
    ) -> None:
        super().__init__()
        self.length, self.channels = length, channels
        h = hyperparameters
        self.num_features = length * max(channels, h.filters_1, h.filters_2, h.filters_3)
        """Numbers in the largest feature map of a series."""
        self.recurrent = RecurrentBlock(length, hyperparameters, channels)
        self.convolutional = ConvolutionalBlock(hyperparameters, channels)
        self.linear = nn.Linear(hyperparameters.hidden_size + hyperparameters.filters_3, num_classes)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, series: Tensor) -> Tensor:
        """Scaled series, channel after channel, (batch, channels * length) -> logits (batch, classes)."""
        features = torch.cat([self.recurrent(series), self.convolutional(series)], dim=1)
        logits: Tensor = self.linear(features)
        return logits


def _convolution(channels: int, filters: int, kernel_size: int) -> nn.Sequential:
    """(batch, channels, length) -> (batch, filters, length)."""
    convolution = Convolution(channels, filters, kernel_size)
    nn.init.kaiming_uniform_(convolution.weight, nonlinearity="relu")
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return nn.Sequential(
        # As Keras pads: an even kernel's odd step goes to the right.
        nn.ConstantPad1d(((kernel_size - 1) // 2, kernel_size // 2), 0.0),
        convolution,
        BatchNormalisation(filters, eps=1e-3, momentum=BATCH_NORM_MOMENTUM),
        nn.ReLU(),
    )
