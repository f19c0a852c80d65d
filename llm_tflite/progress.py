"""How far long work has come: one small record, and a bar for people."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import InvalidOptionError, MissingDependencyError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


@dataclass(frozen=True)
class Progress:
    """One step of a long task.

    Attributes:
        stage: What is being done, in a few words.
        done: Steps of this stage that are finished.
        total: Steps of this stage in all, 1 where it has no parts.
    """

    stage: str
    done: int
    total: int


Report = Callable[[Progress], None]


@contextlib.contextmanager
def reporting(progress: bool | Report | None) -> Iterator[Report]:
    """Yield the function to call at every step.

    Args:
        progress: True for a bar in the terminal or the notebook, a function to be called with each
            ``Progress``, None or False for silence.

    Raises:
        InvalidOptionError: ``progress`` is none of these.
        MissingDependencyError: The bar was asked for and ``rich`` is not installed.
    """
    if progress is None or progress is False:
        yield lambda step: None
    elif progress is not True:
        if not callable(progress):
            raise InvalidOptionError(
                f"progress must be True, False, None or a function; got {type(progress).__name__}"
            )
        yield progress
    else:
        try:
            from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar
        except ImportError as error:
            raise MissingDependencyError(
                "the progress bar needs rich: pip install 'llm-tflite[convert]'"
            ) from error
        columns = (TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn())
        bar = Bar(*columns)
        with _shown(bar) as refresh:
            tasks: dict[str, TaskID] = {}

            def advance(step: Progress) -> None:
                for stage, task in tasks.items():
                    if stage != step.stage:
                        bar.update(task, completed=bar.tasks[task].total)
                if step.stage not in tasks:
                    tasks[step.stage] = bar.add_task(step.stage, total=step.total)
                bar.update(tasks[step.stage], completed=step.done)
                refresh()

            yield advance
            for task in tasks.values():
                bar.update(task, completed=bar.tasks[task].total)
            refresh()


@contextlib.contextmanager
def _shown(bar: Bar) -> Iterator[Callable[[], None]]:
    """Show a bar, and yield what draws it again.

    In a terminal it draws itself. In a notebook it would want ipywidgets for that and warn at every
    step where there is none; an output of the cell that is replaced looks the same everywhere.
    """
    if not bar.console.is_jupyter:
        with bar:
            yield lambda: None
    else:
        from IPython.display import display

        output = display(bar, display_id=True)
        yield lambda: output.update(bar)
