"""What ends a process: failures that nobody inside it can mend, each with its exit code.

These are not in `lockstep.errors`, because no caller is ever told of them: they unwind the process, which
says what happened on its log and exits. A supervisor may restart on 1, 4 and 6; the others need a person
first.

    exit code  meaning
    0          stopped as asked
    1          a defect, or a stop that took too long
    2          the settings or the environment are wrong
    3          another process holds the data
    4          storage failed: a write or sync did not succeed
    5          the data is not this version's, or was damaged
    6          the address cannot be bound
"""

from typing import Final

EXIT_CLEAN: Final = 0
EXIT_DEFECT: Final = 1


class ProcessFailure(Exception):
    """Ends the process with the class's exit code. Never caught by services."""

    exit_code: int = EXIT_DEFECT
    """What the process exits with."""


class SettingsInvalid(ProcessFailure):
    """The settings or the environment are wrong; the message names the field and says what was expected."""

    exit_code = 2


class DataLocked(ProcessFailure):
    """Another process holds the data; the message names its pid."""

    exit_code = 3


class StorageFailed(ProcessFailure):
    """A write or sync did not succeed, so nothing is known about what is on disk.

    Never tried again on the same file: after a failed sync the kernel may drop what it could not write and
    report success the next time. A restart reads back what is there.
    """

    exit_code = 4


class DataRefused(ProcessFailure):
    """The data belongs to another program or a newer version, or its checksum is wrong."""

    exit_code = 5


class AddressUnavailable(ProcessFailure):
    """The address cannot be bound, most often because another process has it."""

    exit_code = 6
