"""The interface of condition types: a stateless one evaluates an event alone, a windowed one the events of a window.

`group_suffix` names the group at the end of a sentence, see `rules.verdict.format_group`.
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
    """A condition that needs one event alone."""

    @property
    def windowed(self) -> Literal[False]: ...
    @property
    def scope(self) -> Scope: ...
    def evaluate(self, event: Event, group_suffix: str) -> Verdict: ...


class Windowed(Protocol):
    """A condition that needs the result of its `query` to a shared window."""

    @property
    def windowed(self) -> Literal[True]: ...
    @property
    def scope(self) -> Scope: ...
    @property
    def query(self) -> WindowQuery: ...

    @property
    def value_of(self) -> Getter | None:
        """The function that returns the value of an event in the window; None if each event counts as 1."""
        ...

    def evaluate(self, result: WindowResult, group_suffix: str) -> Verdict: ...

    def selection(self, at: int, group: Mapping[str, Any]) -> Selection:
        """Return the stored events behind a verdict about the window that ends at `at`, in microseconds."""
        ...


Condition = Stateless | Windowed


class ConditionSchema(Schema):
    """The fields of one condition type; its field `type` holds the type's name."""

    @abstractmethod
    def build(self, values: Mapping[str, Any]) -> Condition:
        """Return the condition of loaded values, which include the window and the lateness of the rule in seconds."""
        ...

    def warnings(self, values: Mapping[str, Any]) -> list[str]:  # noqa: ARG002 - for types that override it
        """Return what an administrator should know about these values; a newer version may have written them."""
        return []

    def canonical(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the form of loaded values from which window keys are derived.

        Fields at their default are left out, so that a new optional field changes no key. Different spellings of
        the same meaning have the same form.
        """
        forms = {name: self._form(name, value) for name, value in values.items()}
        return {name: form for name, form in forms.items() if form != self._default(name)}

    def _form(self, name: str, value: Any) -> Any:
        form = getattr(self.fields[name], "canonical", normalize)
        return form(value)

    def _default(self, name: str) -> Any:
        """Return the canonical form of a field's default; for a required field `missing`, which equals no value."""
        default = self.fields[name].load_default
        if default is missing:
            return missing
        return self._form(name, default() if callable(default) else default)
