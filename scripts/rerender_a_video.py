"""What the webui loads: registration only. Everything else is in the package `rerender`."""

from rerender.hosts.webui.extension import register

register()
