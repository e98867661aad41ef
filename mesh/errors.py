"""Who is to blame: the three kinds of error, and what each one costs.

Every error this project raises on purpose says whose fault it is, because the answer decides what happens next:

* :class:`PeerError`: what arrived from outside is wrong. The peer, file or card is dropped; nothing of ours is lost.
* :class:`LocalError`: our own caller (an operator, a command line, a program) asked for something that cannot be done.
* :class:`StorageError`: the disk did not do what it promised. The process ends and the store is checked when reopened.

The text is for people: what happened, what it means for the money, what to do.
"""


class TapmeshError(Exception):
    """Base of every error raised on purpose."""


class PeerError(TapmeshError):
    """Bytes from outside break a rule: drop whoever sent them and keep everything else."""


class LocalError(TapmeshError):
    """The caller on this device asked for something that cannot be done; nothing was changed."""


class StorageError(TapmeshError):
    """The disk failed or holds something unexpected: end the process, reopen with checks."""
