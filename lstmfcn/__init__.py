"""Classify time series at scale with LSTM-FCN networks on Ray."""

__version__ = "0.1.0"
