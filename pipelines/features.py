"""Functions of our own that make features, for use in model.yaml by dotted path:

    class: sklearn.preprocessing.FunctionTransformer
    params: {func: {function: pipelines.features.<function>}}

A function takes an array of rows x columns and gives one, row by row: what it says of a row depends
on that row alone. Written with numpy only, it is translated with its model, and a server calls it
without loading pandas and scikit-learn. A release carries this file to the server; keep the names of
functions, by which released models call them.

What has to learn something from the rows is a class: a transformer of your own, in a module beside
this one. Its model is served by scikit-learn, since nobody can translate what a class may do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def minute_of_day(rows: Any) -> npt.NDArray[np.float64]:
    """Hour (first column) and minute (second) as one number, the minutes since midnight.

    A tree finds "leaves after 17:45" with one cut here, where hour and minute by themselves take
    three; and delays build up through the day, not through the hour.
    """
    hour, minute = np.asarray(rows, dtype=np.float64).T
    return np.column_stack([60 * hour + minute])
