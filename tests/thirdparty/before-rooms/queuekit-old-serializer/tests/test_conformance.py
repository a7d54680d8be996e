"""The plugin and its serializer against queuekit's own suites."""

from collections.abc import Callable

from queuekit.serializer import Serializer
from queuekit.testing import PluginConformance, SerializerConformance

from queuekit_old_serializer.serializer import OldSerializerSerializer


class TestPlugin(PluginConformance):
    """What pip installs, and the module that queuekit imports."""

    plugin = "queuekit_old_serializer.plugin"


class TestSerializer(SerializerConformance):
    """What goes in comes out."""

    KEEPS = ()  # what must come back beyond plain data, e.g. ("tuple", "date"); the closing lines name what does

    def make_serializer(self, types: Callable[[str], type | None]) -> Serializer:
        """Return one that knows the classes of the suite."""
        return OldSerializerSerializer(types)
