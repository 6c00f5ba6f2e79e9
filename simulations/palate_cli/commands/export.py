"""`palate export`: what a run made, as files for tools that know nothing of Palate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate_common.records.files import create_durably
from palate_core.errors import InputError

app = typer.Typer(no_args_is_help=True, help="What a run made, as plain files for other tools.")


@app.callback()
def _group() -> None:
    """Keep `items` a command of its own while it is the only one."""


@app.command()
def items(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The parquet file to write; it must not exist.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Vectors as whole numbers with a scale a column: a quarter of the size.")
    ] = False,
) -> None:
    """Write the model's item table as parquet: ids, noised popularity, vectors."""
    import pyarrow as arrow  # type: ignore[import-untyped]  # it ships no types
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    from palate_sim.run.result import Result

    if out.exists():
        raise InputError(f"`--out` must be a new file, got {out}")
    table = Result.read(run).item_table(precision="int8" if int8 else "float32")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        written = arrow.BufferOutputStream()
        parquet.write_table(table, written)
        create_durably(out, written.getvalue().to_pybytes())
    except FileExistsError:
        raise InputError(f"`--out` must be a new file, got {out}") from None
    except OSError as error:
        raise InputError(f"`--out` must be writable, got {out}: {error.strerror}") from None
    typer.echo(f"{table.num_rows:,} items, {', '.join(table.column_names)}: {out}")
