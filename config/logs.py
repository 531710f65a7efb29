"""One log line: its moment in UTC, and no line break or other control character that anybody sent."""

import logging
import time

# As Python writes them. A traceback, which follows its line, keeps its own line breaks.
WRITTEN_OUT = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}


class LineFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record):
        return super().formatMessage(record).translate(WRITTEN_OUT)
