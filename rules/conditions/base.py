"""Interface of condition types. Stateless conditions evaluate single events, windowed conditions evaluate windows.

`group_suffix` is the text for the group at the end of a verdict's reason; see `rules.verdict.format_group`.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from marshmallow import Schema, missing

from rules.event import Event
from rules.scope import Getter, Scope, normalize
from rules.verdict import Selection, Verdict
from rules.windows.queries import WindowQuery, WindowResult


class Stateless(Protocol):
    """A condition that evaluates single events."""

    @property
    def windowed(self) -> Literal[False]: ...
    @property
    def scope(self) -> Scope: ...
    def evaluate(self, event: Event, group_suffix: str) -> Verdict: ...


class Windowed(Protocol):
    """A condition that evaluates the results of its `query`. The queried windows are shared by all workers."""

    @property
    def windowed(self) -> Literal[True]: ...
    @property
    def scope(self) -> Scope: ...
    @property
    def query(self) -> WindowQuery: ...

    @property
    def value_of(self) -> Getter | None:
        """Return the function that returns the value of an event in the window; None if each event counts as 1."""
        ...

    def evaluate(self, result: WindowResult, group_suffix: str) -> Verdict: ...

    def selection(self, at: int, group: Mapping[str, Any]) -> Selection:
        """Return the selection of the stored events that caused the verdict for an event with the timestamp `at`.

        `at` is in microseconds since the Unix epoch.
        """
        ...


Condition = Stateless | Windowed


class ConditionSchema(Schema):
    """Base class for the fields of a condition type. The field `type` contains the name of the type."""

    @abstractmethod
    def build(self, values: Mapping[str, Any]) -> Condition:
        """Return the condition for `values`: the loaded fields of the condition and of the rule that contains it."""
        ...

    def warnings(self, values: Mapping[str, Any]) -> list[str]:  # noqa: ARG002 - for types that override it
        """Return warnings about these values, for administrators. The values may be invalid in this version."""
        return []

    def canonical(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the canonical form of loaded values, from which window keys are derived.

        Fields with their default value are omitted, so that a new optional field changes no key. Values with the same
        meaning have the same form.
        """
        forms = {name: self._form(name, value) for name, value in values.items()}
        return {name: form for name, form in forms.items() if form != self._default(name)}

    def _form(self, name: str, value: Any) -> Any:
        form = getattr(self.fields[name], "canonical", normalize)
        return form(value)

    def _default(self, name: str) -> Any:
        """Return the canonical form of the default of a field.

        If the field is required, return `missing`, which equals no value.
        """
        default = self.fields[name].load_default
        if default is missing:
            return missing
        return self._form(name, default() if callable(default) else default)
