"""What the webui loads: registration only. Everything else is in the package `rerender`."""

from rerender.hosts.webui.extension import register
from rerender.hosts.webui.script import RerenderScript  # noqa: F401  (the webui registers every Script it finds here)

register()
