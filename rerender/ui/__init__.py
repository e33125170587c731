"""Jobs, the HTTP API and the gradio panel: written once, for the webui and for `python -m rerender ui`."""
