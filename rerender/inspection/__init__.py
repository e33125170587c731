"""What a rendered key frame was made from, as pictures: people judge flow, masks and fusion targets by looking."""

from rerender.inspection.key_frame import inspect_key_frame
from rerender.inspection.sheet import caption, inspection_sheet, write_inspection

__all__ = ["caption", "inspect_key_frame", "inspection_sheet", "write_inspection"]
