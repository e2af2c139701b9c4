"""Which errors of the operating system may pass by themselves."""

import errno

# Errors of a machine that has no room: the next try may succeed.
TEMPORARY = (errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
