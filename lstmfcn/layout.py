"""How an input file of a transform is read, and how its output begins, as its first line tells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from lstmfcn.cells import BYTE_ORDER_MARK
from lstmfcn.errors import DataError, shown
from lstmfcn.header import Header
from lstmfcn.prediction_format import PredictionColumn, PredictionFormat, usual_columns
from lstmfcn.rendering import Renderer
from lstmfcn.series import header_cells
from lstmfcn.treatment import UNTREATED, Treatment


@dataclass(frozen=True, slots=True)
class Layout:
    """How one input file is read, and how its output begins."""

    format: PredictionFormat
    """The format that is asked for, with identifiers by position."""
    columns: tuple[PredictionColumn, ...]
    """What to write of each prediction."""
    header: Header | None = None
    output_header: bytes = b""
    """The first line of the output, if there is a header."""
    treatment: Treatment = UNTREATED
    """The checkpoint's treatment of missing values and lengths."""

    @classmethod
    def of(
        cls,
        first_line: bytes,
        format: PredictionFormat,
        num_values: int,
        renderer: Renderer,
        source: str,
        treatment: Treatment = UNTREATED,
    ) -> Self:
        """Return the layout of a file by its first line.

        Raises DataError for a header that is not of the data format, or not what `format` names.
        """
        cells = header_cells(first_line)
        columns = format.columns or usual_columns(with_header=cells is not None)
        if not first_line:
            return cls(format, columns, treatment=treatment)  # who reads the file says what is wrong with it
        by_position = replace(format, identifiers=format.identifiers.located(cells, source))
        if cells is None:
            if treatment.takes_any_length:
                by_position.identifiers.refuse_after_values(source, labelled=False)
            return cls(by_position, columns, treatment=treatment)
        header = Header.of(
            cells,
            source,
            treatment.required(num_values),
            labelled=False,
            identifiers=by_position.identifiers.positions,
            channels=treatment.channels,
        )
        predicted = renderer.names(columns)
        for position in by_position.identifiers.positions:
            if (name := cells[position - 1].strip()) in predicted:
                where = f"{source}: row 1, column {position}"
                raise DataError(f"{where}: the predictions have a {shown(name)} of their own")
        _, before = by_position.take_identifiers(first_line.removeprefix(BYTE_ORDER_MARK))
        written = b",".join([*(before or []), ",".join(predicted).encode()])
        return cls(by_position, columns, header, written + b"\n", treatment)
