"""Tests that the models have the columns of the migrated tables."""

import pytest

from models.anomaly import Anomaly
from models.base import Row
from models.channel import Channel
from models.channel_notice import ChannelNotice
from models.channel_state import ChannelState
from models.database import database
from models.dead_letter import DeadLetter
from models.delivery import Delivery
from models.event import Event
from models.pending_evaluation import PendingEvaluation
from models.rule import Rule, RuleVersion
from models.throughput import Throughput

ROWS = [
    Event,
    PendingEvaluation,
    Rule,
    RuleVersion,
    Anomaly,
    Channel,
    ChannelState,
    ChannelNotice,
    Delivery,
    Throughput,
    DeadLetter,
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_a_model_has_the_columns_of_its_table(db: None, row: type[Row]) -> None:
    columns = database.get_columns(row._meta.table_name)
    assert {column.name for column in columns} == set(row._meta.columns)
    assert {column.name for column in columns if column.null} == {
        name for name, field in row._meta.columns.items() if field.null
    }
    assert database.get_primary_keys(row._meta.table_name) == [
        field.column_name for field in row._meta.get_primary_keys()
    ]


def test_every_table_has_its_model(db: None) -> None:
    assert set(database.get_tables()) - {"schema_migration", "rulebook", "suppressed_firings", "storm_counts"} == {
        row._meta.table_name for row in ROWS
    }


def test_every_time_column_has_a_time_zone(db: None) -> None:
    for row in ROWS:
        types = {column.name: column.data_type for column in database.get_columns(row._meta.table_name)}
        assert not [name for name, kind in types.items() if kind == "timestamp without time zone"], row
