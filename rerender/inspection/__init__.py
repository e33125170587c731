"""What a rendered key frame was made from, as pictures: people judge flow, masks and fusion targets by looking."""

from rerender.inspection.key_frame import inspect_key_frame
from rerender.inspection.sheet import caption, check_folder, inspection_sheet, write_inspection

__all__ = ["caption", "check_folder", "inspect_key_frame", "inspection_sheet", "write_inspection"]
