"""Expert tables: what each subset of experts writes, how it was scored, and the files that say so."""

from jaxmoe.table.expert_table import (
    ExpertTable,
    TableMeta,
    build_table,
    describe,
    given_table,
    load_table,
    shipped_experts_path,
)

__all__ = [
    "ExpertTable",
    "TableMeta",
    "build_table",
    "describe",
    "given_table",
    "load_table",
    "shipped_experts_path",
]
