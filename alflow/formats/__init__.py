"""Files of labels, in and out: a stream of structures with their evaluations and what is known of them."""

from alflow.formats.entry import Entry, Exported, ReadSettings, Source
from alflow.formats.files import FORMATS, fingerprint_of, format_of, open_source, write_labels

__all__ = [
    "FORMATS",
    "Entry",
    "Exported",
    "ReadSettings",
    "Source",
    "fingerprint_of",
    "format_of",
    "open_source",
    "write_labels",
]
