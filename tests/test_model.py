import pytest
import torch
from torch import nn

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model import LSTM, LSTMFCN, AttentionLSTM, ConvolutionalBlock, RecurrentBlock, SqueezeExcite


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_of_the_default_network_counted_by_hand() -> None:
    model = LSTMFCN(num_classes=3, length=100, hyperparameters=Hyperparameters())

    # Four gates of 8 units over 100 features and 8 states, with PyTorch's two biases.
    assert num_parameters(model.recurrent) == 4 * 8 * (100 + 8 + 1 + 1) == 3_520
    # Kernels 8, 5, 3 over 1, 128, 256 channels with a bias, and scale and shift of batch normalisation.
    first = 128 * (8 * 1 + 1) + 2 * 128
    second = 256 * (5 * 128 + 1) + 2 * 256
    third = 128 * (3 * 256 + 1) + 2 * 128
    assert num_parameters(model.convolutional) == first + second + third == 264_704
    assert num_parameters(model.linear) == 3 * (8 + 128 + 1) == 411
    assert num_parameters(model) == 268_635


def test_the_lstm_sees_one_time_step_of_length_features() -> None:
    block = RecurrentBlock(100, Hyperparameters(num_layers=2, hidden_size=7)).eval()
    steps = torch.randn(5, 1, 100)
    output = steps
    for layer in block.layers:
        reference = nn.LSTM(layer.input_size, 7, batch_first=True)
        reference.load_state_dict(layer.state_dict())
        output, _ = reference(output)

    assert torch.allclose(block(steps.squeeze(1)), output.squeeze(1), atol=1e-7)


def test_of_several_channels_the_lstm_sees_one_after_the_other_as_a_step() -> None:
    block = RecurrentBlock(20, Hyperparameters(num_layers=2, hidden_size=7), channels=3).eval()
    steps = torch.randn(5, 3, 20)
    output = steps
    for layer in block.layers:
        reference = nn.LSTM(layer.input_size, 7, batch_first=True)
        reference.load_state_dict(layer.state_dict())
        output, _ = reference(output)

    assert torch.allclose(block(steps.flatten(1)), output[:, -1], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 4])
def test_dropout_follows_each_lstm_layer(channels: int) -> None:
    torch.manual_seed(0)
    block = RecurrentBlock(10, Hyperparameters(num_layers=3, hidden_size=200, dropout=0.5), channels)
    inputs = []
    for layer in block.layers:
        layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))

    output = block(torch.randn(4, channels * 10))

    for dropped in (*inputs[1:], output):
        assert 0.4 < (dropped == 0).float().mean() < 0.6
    assert (inputs[0] != 0).all()


def test_parameters_of_the_attention_network_counted_by_hand() -> None:
    model = LSTMFCN(num_classes=3, length=100, hyperparameters=Hyperparameters(attention=1))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.recurrent.layers[0].named_parameters()}

    # An attention kernel for four gates; an alignment of 100 features and 8 states, with a bias; its vector.
    assert num_parameters(model.recurrent) == 3_520 + 4 * 8 * 100 + 8 * (100 + 8 + 1) + 8 == 7_600
    assert num_parameters(model) == 268_635 + 4_080
    assert shapes["attention_kernel"] == (32, 100)
    assert shapes["alignment_kernel"] == (8, 100)
    assert shapes["alignment_recurrent_kernel"] == (8, 8)
    assert shapes["alignment_bias"] == (8,)
    assert shapes["alignment_vector"] == (1, 8)


def attended(layer: AttentionLSTM, steps: torch.Tensor) -> torch.Tensor:
    """The published cell over (batch, steps, features), written out; the last state."""
    batch, size = len(steps), layer.hidden_size
    input_kernel, recurrent_kernel, *_ = layer.all_weights[0]
    state = torch.zeros(batch, size)
    memory = torch.zeros(batch, size)
    for step in range(steps.shape[1]):
        aligned = (
            steps @ layer.alignment_kernel.t()
            + (state @ layer.alignment_recurrent_kernel.t())[:, None]
            + layer.alignment_bias
        )
        weights = torch.softmax(aligned.tanh() @ layer.alignment_vector[0], dim=1)
        context = (weights[:, :, None] * steps).sum(dim=1)
        gates = (
            steps[:, step] @ input_kernel.t()
            + state @ recurrent_kernel.t()
            + context @ layer.attention_kernel.t()
            + layer.gate_bias()
        )
        into, forget, cell, out = gates.chunk(4, dim=1)
        memory = forget.sigmoid() * memory + into.sigmoid() * cell.tanh()
        state = out.sigmoid() * memory.tanh()
    return state


@pytest.mark.parametrize("num_steps", [1, 2, 6])
def test_the_attention_lstm_is_the_published_cell(num_steps: int) -> None:
    torch.manual_seed(0)
    layer = AttentionLSTM(20, 7)
    steps = torch.randn(5, num_steps, 20)

    assert torch.allclose(layer(steps)[:, -1], attended(layer, steps), atol=1e-6)


@pytest.mark.parametrize("layer", [LSTM, AttentionLSTM])
def test_over_several_steps_every_weight_gets_a_gradient(layer: type[LSTM]) -> None:
    lstm = layer(20, 7)
    lstm(torch.randn(5, 3, 20))[:, -1].sum().backward()

    assert all(parameter.grad is not None and parameter.grad.any() for parameter in lstm.parameters())


def test_what_has_no_effect_over_one_step_is_not_trained() -> None:
    model = LSTMFCN(3, 20, Hyperparameters(attention=1))
    model(torch.randn(4, 20)).sum().backward()

    fixed = {name for name, one in model.recurrent.layers[0].named_parameters() if not one.requires_grad}
    assert all((one.grad is not None) == one.requires_grad for one in model.parameters())
    assert fixed == {
        "weight_hh_l0",
        "alignment_kernel",
        "alignment_recurrent_kernel",
        "alignment_bias",
        "alignment_vector",
    }


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 8])
def test_convolutions_keep_the_length(kernel_size: int) -> None:
    block = ConvolutionalBlock(
        Hyperparameters(kernel_size_1=kernel_size, kernel_size_2=kernel_size, kernel_size_3=kernel_size)
    )

    assert block.layers(torch.zeros(2, 1, 11)).shape == (2, 128, 11)


def test_parameters_of_a_network_of_six_channels_counted_by_hand() -> None:
    model = LSTMFCN(num_classes=4, length=100, hyperparameters=Hyperparameters(), channels=6)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}

    # The same LSTM as of one channel, which now takes six steps of 100 features.
    assert num_parameters(model.recurrent) == 4 * 8 * (100 + 8 + 1 + 1) == 3_520
    first = 128 * (8 * 6 + 1) + 2 * 128
    second = 256 * (5 * 128 + 1) + 2 * 256
    third = 128 * (3 * 256 + 1) + 2 * 128
    assert num_parameters(model.convolutional) == first + second + third == 269_824
    assert num_parameters(model.linear) == 4 * (8 + 128 + 1) == 548
    assert num_parameters(model) == 273_892
    assert shapes["recurrent.layers.0.weight_ih_l0"] == (32, 100)
    assert shapes["convolutional.layers.0.1.weight"] == (128, 6, 8)
    assert model(torch.zeros(3, 600)).shape == (3, 4)


def test_parameters_of_squeeze_and_excite_counted_by_hand() -> None:
    hyperparameters = Hyperparameters(squeeze_excite=1, filters_2=64)
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in ConvolutionalBlock(hyperparameters).named_parameters()
        if "squeeze" in name or "excite" in name
    }

    # A sixteenth of 128 filters are 8 units, of 64 filters 4; no biases.
    assert shapes == {
        "layers.0.4.squeeze.weight": (8, 128),
        "layers.0.4.excite.weight": (128, 8),
        "layers.1.4.squeeze.weight": (4, 64),
        "layers.1.4.excite.weight": (64, 4),
    }
    with_blocks = LSTMFCN(4, 100, Hyperparameters(squeeze_excite=1), channels=6)
    assert num_parameters(with_blocks) == 273_892 + 2 * 8 * 128 + 2 * 16 * 256 == 284_132


def test_squeeze_and_excite_weighs_each_filter_by_the_means_of_all() -> None:
    torch.manual_seed(0)
    block = SqueezeExcite(32)
    features = torch.rand(3, 32, 10)
    means = features.sum(dim=2) / 10
    units = torch.clamp(means @ block.squeeze.weight.T, min=0)
    weights = 1 / (1 + torch.exp(-(units @ block.excite.weight.T)))

    assert torch.allclose(block(features), features * weights[:, :, None], atol=1e-6)
    assert torch.allclose(block(features[:, :, None]), block(features)[:, :, None])


def test_fewer_filters_than_sixteen_are_squeezed_into_one_unit() -> None:
    assert SqueezeExcite(9).squeeze.weight.shape == (1, 9)


def test_convolutions_see_the_values_of_a_row_channel_after_channel() -> None:
    block = ConvolutionalBlock(Hyperparameters(filters_3=4), channels=3).eval()
    channels = torch.randn(5, 3, 50)

    assert torch.equal(block(channels.flatten(1)), block.layers(channels).mean(dim=2))


def test_an_even_kernel_is_padded_by_one_more_on_the_right() -> None:
    padding, convolution, *_ = ConvolutionalBlock(Hyperparameters(kernel_size_1=8)).layers[0].children()
    assert isinstance(convolution, nn.Conv1d)
    assert convolution.bias is not None
    impulse = torch.zeros(1, 1, 20)
    impulse[..., 10] = 1
    with torch.no_grad():
        response = convolution(padding(impulse))

    # Output t sees inputs t - 3 .. t + 4, so an impulse at 10 reaches outputs 6 .. 13.
    assert (response != convolution.bias[:, None]).any(dim=1).nonzero()[:, 1].tolist() == list(range(6, 14))


def test_batch_normalisation_has_keras_constants() -> None:
    norms = [
        module
        for module in ConvolutionalBlock(Hyperparameters()).modules()
        if isinstance(module, nn.BatchNorm1d)
    ]

    assert [(norm.momentum, norm.eps) for norm in norms] == [(0.01, 1e-3)] * 3


def test_initialisation_is_that_of_the_papers_code() -> None:
    model = LSTMFCN(num_classes=2, length=50, hyperparameters=Hyperparameters(hidden_size=16))
    lstm = model.recurrent.layers[0]
    assert isinstance(lstm, nn.LSTM)
    input_kernel, recurrent_kernel, input_bias, recurrent_bias = lstm.all_weights[0]

    assert input_kernel.abs().max() <= (6 / (50 + 64)) ** 0.5  # glorot uniform
    assert torch.allclose(recurrent_kernel.T @ recurrent_kernel, torch.eye(16), atol=1e-5)
    assert input_bias.tolist() == [0.0] * 16 + [1.0] * 16 + [0.0] * 32  # the forget gate's is 1
    assert recurrent_bias.tolist() == [0.0] * 64
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv1d)]
    for channels, kernel_size, convolution in zip((1, 128, 256), (8, 5, 3), convolutions, strict=True):
        limit = (6 / (channels * kernel_size)) ** 0.5  # he uniform
        assert convolution.bias is not None
        assert 0.9 * limit < convolution.weight.abs().max() <= limit
        assert not convolution.bias.any()
    assert model.linear.weight.abs().max() <= (6 / (16 + 128 + 2)) ** 0.5
    assert not model.linear.bias.any()


def test_logits_are_those_of_both_blocks_concatenated() -> None:
    model = LSTMFCN(num_classes=4, length=9, hyperparameters=Hyperparameters()).eval()
    series = torch.randn(3, 9)
    features = torch.cat([model.recurrent(series), model.convolutional(series)], dim=1)

    assert torch.equal(model(series), model.linear(features))
    assert model(series).shape == (3, 4)
