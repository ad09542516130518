"""What `lspci -vvv` says of a device in a guest."""

import re

ODD = r'(?i)\[disabled\]|<unknown>|!!!|access denied|chain (?:broken|looped)'
ERRORS = r'(?:<MAbort|<TAbort|>SERR|<PERR)\+'


def describe(machine, address):
    return machine.run(f'lspci -vvv -s {address}').output


def oddities(text):
    """What is not said of a sane device."""
    return re.findall(ODD, text) + re.findall(ERRORS, text)
