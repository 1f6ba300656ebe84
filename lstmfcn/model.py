"""LSTM-FCN (Karim, Majumdar, Darabi and Chen, "LSTM Fully Convolutional Networks for Time Series
Classification", IEEE Access 2018, doi 10.1109/ACCESS.2017.2779939).

Initialisation and batch normalisation follow the paper's published code, which is written in Keras.
One difference is kept: the LSTM's gates use the sigmoid, where that code has Keras's hard sigmoid.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstmfcn.convolution import Convolution, in_bfloat16_on_cpu
from lstmfcn.hyperparameters import Hyperparameters


class RecurrentBlock(nn.Module):
    """LSTM layers, each followed by dropout, over the whole series as one time step.

    This is the paper's "dimension shuffle": the LSTM sees a single step of `length` features
    and not `length` steps of one feature.
    """

    def __init__(self, length: int, hyperparameters: Hyperparameters) -> None:
        super().__init__()
        self.length = length
        sizes = [length] + [hyperparameters.hidden_size] * hyperparameters.num_layers
        layer = AttentionLSTM if hyperparameters.attention else OneStepLSTM
        self.layers = nn.ModuleList(layer(size_in, size_out) for size_in, size_out in pairwise(sizes))
        self.dropout = nn.Dropout(hyperparameters.dropout)

    def forward(self, series: Tensor) -> Tensor:
        """(batch, length) -> (batch, hidden)."""
        features = series
        for layer in self.layers:
            features = self.dropout(layer(features))
        return features


class OneStepLSTM(nn.LSTM):
    """An LSTM layer over one time step from a state of zeros.

    The zeros cancel the recurrent kernel and the forget gate: they stay as they were initialised.
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

    def forward(self, features: Tensor) -> Tensor:  # type: ignore[override]
        """(batch, size_in) -> (batch, hidden)."""
        gates = functional.linear(features, self.gate_kernel(), self.gate_bias())
        into, _, cell, out = gates.chunk(4, dim=1)
        return out.sigmoid() * (into.sigmoid() * cell.tanh()).tanh()

    def gate_kernel(self) -> Tensor:
        """(4 hidden, size_in): of the input, forget, cell and output gates."""
        input_kernel: Tensor = self.all_weights[0][0]
        return input_kernel

    def gate_bias(self) -> Tensor:
        """(4 hidden,)."""
        _, _, input_bias, recurrent_bias = self.all_weights[0]
        return input_bias + recurrent_bias


class AttentionLSTM(OneStepLSTM):
    """The attention LSTM of ALSTM-FCN, as in the paper's published code, over one time step.

    Its attention weighs the time steps that it sees by a softmax, which over a single step is 1: the context
    is the step itself. So after the dimension shuffle the layer is an LSTM with two input kernels that are
    added, and the alignment's weights, kept for the sake of the published shape, never get a gradient.
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

    def gate_kernel(self) -> Tensor:
        """As the LSTM's."""
        return super().gate_kernel() + self.attention_kernel


class ConvolutionalBlock(nn.Module):
    """Three times convolution, batch normalisation and ReLU; then the mean over time."""

    def __init__(self, hyperparameters: Hyperparameters) -> None:
        super().__init__()
        self.in_bfloat16 = False
        """Whether its layers train under autocast; the mean, and all else of the network, stays float32."""
        h = hyperparameters
        self.layers = nn.Sequential(
            _convolution(1, h.filters_1, h.kernel_size_1),
            _convolution(h.filters_1, h.filters_2, h.kernel_size_2),
            _convolution(h.filters_2, h.filters_3, h.kernel_size_3),
        )

    def forward(self, series: Tensor) -> Tensor:
        """(batch, length) -> (batch, filters_3)."""
        channels = series.unsqueeze(1)
        with torch.autocast(series.device.type, torch.bfloat16, enabled=self.in_bfloat16 and self.training):
            if in_bfloat16_on_cpu(series):
                # As images of height 1, channels last: batch normalisation takes five times as long on
                # series, and oneDNN copies them.
                channels = channels.unsqueeze(2)
            features: Tensor = self.layers(
                channels
            )  # (batch, filters_3, length), or (batch, filters_3, 1, length)
        return features.mean(dim=-1, dtype=torch.float32).flatten(1)


class BatchNormalisation(nn.BatchNorm1d):
    """nn.BatchNorm1d, which takes images too."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions will do."""


class LSTMFCN(nn.Module):
    """The recurrent block beside the convolutional block, both concatenated into a linear layer."""

    def __init__(self, num_classes: int, length: int, hyperparameters: Hyperparameters) -> None:
        super().__init__()
        self.recurrent = RecurrentBlock(length, hyperparameters)
        self.convolutional = ConvolutionalBlock(hyperparameters)
        self.linear = nn.Linear(hyperparameters.hidden_size + hyperparameters.filters_3, num_classes)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, series: Tensor) -> Tensor:
        """Scaled series (batch, length) -> logits (batch, classes)."""
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
        # Keras's momentum 0.99 is the share of the old mean that is kept; PyTorch's is what is replaced.
        BatchNormalisation(filters, eps=1e-3, momentum=0.01),
        nn.ReLU(),
    )
