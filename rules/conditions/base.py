"""What every kind of condition offers: one decides by the event alone, the other by a window.

`where` names the group, as the end of a sentence.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from marshmallow import Schema

from rules.event import Event
from rules.scope import Scope
from rules.verdict import Selection, Verdict
from rules.windows.queries import Question, WindowResult


class Stateless(Protocol):
    """A condition that one event decides."""

    @property
    def windowed(self) -> Literal[False]: ...
    @property
    def scope(self) -> Scope: ...
    def judge(self, event: Event, where: str) -> Verdict: ...


class Windowed(Protocol):
    """A condition that is decided by what a shared window answers to its `question`."""

    @property
    def windowed(self) -> Literal[True]: ...
    @property
    def scope(self) -> Scope: ...
    @property
    def question(self) -> Question: ...
    def judge(self, sighting: WindowResult, where: str) -> Verdict: ...
    def selection(self, at: int, group: Mapping[str, Any]) -> Selection: ...


Condition = Stateless | Windowed


class ConditionSchema(Schema):
    """What may be written in a rule's `condition`; its field `type` has the name it is known by."""

    @abstractmethod
    def build(self, values: Mapping[str, Any]) -> Condition:
        """The condition of values that this schema has loaded, beside its rule's window and lateness in seconds."""
        ...
