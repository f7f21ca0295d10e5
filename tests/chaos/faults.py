"""Table of all faults."""

from chaos import (
    eventpulse_up,
    faults_channels,
    faults_clocks,
    faults_messages,
    faults_neighbours,
    faults_postgres,
    faults_processes,
    faults_redis,
    faults_schedulers,
    soak,
)
from chaos.context import Fault

FAULTS: list[Fault] = [
    *faults_processes.FAULTS,
    *faults_redis.FAULTS,
    *faults_postgres.FAULTS,
    *faults_messages.FAULTS,
    *faults_channels.FAULTS,
    *faults_neighbours.FAULTS,
    *faults_schedulers.FAULTS,
    *faults_clocks.FAULTS,
    *eventpulse_up.FAULTS,
    *soak.FAULTS,
]
