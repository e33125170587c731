"""Every text of the panel that is not a setting's: plain constants, which the webui's localisation can replace."""

# Stages and buttons
RUN_FIRST = "Run 1st Key Frame"
RUN_KEYS = "Run Key Frames"
RUN_PROPAGATION = "Run Propagation"
RUN_ALL = "Run All"
INTERRUPT = "Interrupt"
SKIP = "Skip"
REDO = "Redo this key frame"
VERSIONS = "Earlier versions"
BRING_BACK = "Bring back"
SEND_TO_IMG2IMG = "Send to img2img"
SHOW_LAST = "Show the last job"
JOB_ID = "The job, as the API and its folder name it"

# What a button says that finds its key frames rendered already, by stage
KEPT = {
    "first": "Nothing to do: this key frame was rendered with these settings. Another seed gives another picture.",
    "keys": "Nothing to do: all key frames were rendered with these settings. Redo gives one of them another seed.",
}

# Earlier versions of key frames
IS_BACK = "Key frame {frame} is the one with {seed} again. Run again: the frames around it follow."
NO_CHOICE = "No earlier version is chosen."
CHOOSE_VERSION = "Select a picture under Earlier versions first."
VERSIONS_INFO = "The present one is kept among them."
NEWEST_VERSIONS = "The newest {shown} of {all}; the others are in the project's folder history."

# The clip
UPLOAD, SERVER_PATH, FORMER = "Upload", "Server path", "Former project"
VIDEO = "Video"
PATH_LABEL = "Path of a video or of a folder of frames"
PATH_HINT = "/videos/holiday.mp4"
PROJECT = "Project"
PROJECT_INFO = "Go on with a former one: its clip, settings and results come back."
NEW_PROJECT = "New project"
AT_WORK = "This project is at work or waits for it already. Interrupt stops it."
NO_CLIP = "Choose a video. The key frames that a run would render appear here."

# Key frames
STRIP = "Key frames of the next run"
EDIT_STRIP = "Edit the key frames"
FRAME = "Frame"
FRAME_INFO = "Find a frame, then add it, or move the selected key frame to it."
ADD, MOVE, REMOVE = "Add this frame", "Move selected here", "Remove selected"
AUTOMATIC = "Back to automatic"
SELECTED = "Selected key frame"
SCENE_CUTS = "Find scene cuts: every shot gets key frames and an anchor of its own"
LOOKING = "Looking through the clip for cuts and motion …"
STAYS = "Frame {frame} begins or ends a shot: it stays a key frame."

# Groups of settings
SAMPLING = "Sampling"
CONSTRAINTS = "What holds the key frames together"
MORE = "More"
EVERYTHING_ELSE = "Everything else"
SOURCE_SECTION, SAMPLING_SECTION = "Source: range, size, crop", "More: sampling"
OUTPUT_FORMAT = "Format"
UPLOAD_MASK = "Upload a mask"
STYLES = "Styles"
DICE, RECYCLE = "🎲\ufe0f", "♻️"
PRESET = "Preset"
PRESET_NAME = "Save as"
SAVE, DELETE = "Save", "Delete"

# Results
KEY_FRAMES = "Key frames"
RESULT = "Result"
COMPARE = "Source and result"
INSPECT = "Inspect: flow, occlusion, fusion target"
INSPECT_BUTTON = "Show what this key frame was made from"
DOWNLOADS = "Downloads"
ZIP = "Key frames as .zip"
NO_KEYS = "Select a key frame, in the strip or in the gallery, to compare it with its source."
NO_RESULT = "The finished clip plays here, beside its source, once the propagation is done."
NO_INSPECTION = "Select a rendered key frame first."

# Advice of the method's authors, where users only find it after a bad result
ADVICE = (
    "Stable motion works best. For large or quick motion: less strength, loose attention, a smaller key interval, "
    "and no pixel-aware fusion. A checkpoint made for the look matters more than any setting."
)
SEED_INFO = "-1: Run 1st Key Frame draws a new one each time, the other buttons keep it."
INTERVAL_INFO = "Distance between key frames: 5 to 20. Smaller for quick motion."
PIXEL_INFO = "Texture of what was already rendered, in the middle steps. Switch it off for quick motion."
COLOR_INFO = "Colour statistics of the anchor, in the late steps. If colours jump, try it on and off."
ATTENTION_INFO = "Style of the reference frames, in every step. Loose layers for large or quick motion."
DETAIL_INFO = "Pixels of what was already rendered, where the new picture agrees: sharp and steady, at no cost."
SHAPE_INFO = "Coarse shapes of the first key frame, in the early steps."
