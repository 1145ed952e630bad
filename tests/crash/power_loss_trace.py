"""
What strace wrote of the journal's files, as a list of events. Reads text; runs nothing.
"""

import re
from dataclasses import dataclass

from power_loss_bot import JOURNAL, PowerError

CALLS = (
    "pwrite64,pwritev,pwritev2,write,writev,ftruncate,truncate,fallocate,fdatasync,fsync,sync_file_range,msync,mmap,"
    "openat,open,creat,link,linkat,unlink,unlinkat,rename,renameat,renameat2,copy_file_range,sendfile"
)


@dataclass
class Event:
    """One step of the recording. Kinds: write, truncate, sync, sync folder, create, unlink, rename, ack, life."""

    kind: str
    name: str = ""  # the file, without its folder
    offset: int = 0
    data: bytes = b""
    length: int = 0  # truncate: the new one
    since: int = 0  # sync: position in the list of events at which it began
    other: str = ""  # rename: the new name
    facts: tuple = ()


STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
DESCRIPTOR = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})*)>")
UNTOUCHED = (
    "pwritev",
    "writev",
    "truncate",
    "fallocate",
    "sync_file_range",
    "msync",
    "link",
    "copy_file_range",
    "sendfile",
)


def decode(text):
    return bytes.fromhex(text.replace("\\x", ""))


class Trace:
    """Reads what strace wrote of one life into events."""

    def __init__(self, path, folder, names, events):
        self.folder, self.names, self.events = str(folder / "journal"), names, events
        self.acks = str(folder / "acks")
        self.actual = folder / "journal"
        began = {}  # thread -> what it has begun, and where
        with path.open(encoding="ascii", errors="replace") as file:
            for line in file:
                thread, _, call = line.rstrip("\n").partition(" ")
                call = call.lstrip()
                if call.endswith("<unfinished ...>"):
                    text = call[: -len("<unfinished ...>")].rstrip()
                    began[thread] = (text, len(events))
                    self.enter(text)
                    continue
                if call.startswith("<..."):
                    text, at = began.pop(thread, ("", 0))
                    text += " " + call.partition("resumed>")[2].strip()
                    entered = True
                else:
                    text, at, entered = call, len(events), False
                head, found, result = text.rpartition(" = ")
                if not found or "(" not in head:
                    continue
                self.leave(head, result, at, entered=entered)
        for text, _ in began.values():  # cut off by the end of the process: the file tells whether it happened
            self.unfinished(text)

    def mine(self, path):
        """The file's name when it is one of the journal's, else None."""
        folder, _, name = path.rpartition("/")
        return name if folder == self.folder and name.startswith(JOURNAL) and not name.endswith("-shm") else None

    @staticmethod
    def split(text):
        name, _, rest = text.partition("(")
        descriptor = DESCRIPTOR.match(rest)
        path = decode(descriptor[2]).decode() if descriptor else ""
        return name, rest, path

    def enter(self, text):
        """A call that was split: what it wrote may be there from here on."""
        name, rest, path = self.split(text)
        if name == "write" and path == self.acks:
            self.ack(rest)

    def ack(self, rest):
        for line in decode(STRING.search(rest)[1]).decode().splitlines():
            self.events.append(Event("ack", facts=tuple(line.split())))

    def leave(self, head, result, at, *, entered):
        name, rest, path = self.split(head)
        if name == "write" and path == self.acks:
            if not entered:
                self.ack(rest)
            return
        if result.startswith(("-1", "?")):
            return
        file = self.mine(path)
        if name == "pwrite64" and file:
            self.write(file, rest, int(result.split()[0]))
        elif name in ("fdatasync", "fsync"):
            if file:
                self.events.append(Event("sync", file, since=at))
            elif path == self.folder:
                self.events.append(Event("sync folder", since=at))
        elif name == "ftruncate" and file:
            self.events.append(Event("truncate", file, length=int(rest.rpartition(",")[2].strip(" )"))))
        elif name in ("openat", "open", "creat"):
            self.open(name, rest)
        elif name in ("unlink", "unlinkat"):
            file = self.mine(decode(STRING.search(rest)[1]).decode())
            if file:
                self.names.discard(file)
                self.events.append(Event("unlink", file))
        elif name.startswith("rename"):
            old, new = (self.mine(decode(found[0]).decode()) for found in STRING.findall(rest)[:2])
            if old and new:
                self.names.discard(old)
                self.names.add(new)
                self.events.append(Event("rename", old, other=new))
            elif old or new:
                raise PowerError(f"trace: {name} moves a file of the journal in or out of its folder")
        elif file and (
            name in ("write", *UNTOUCHED) or (name == "mmap" and "PROT_WRITE" in rest and "MAP_SHARED" in rest)
        ):
            raise PowerError(f"trace: {name} on {file} is not understood")

    def write(self, file, rest, count):
        found = STRING.search(rest)
        if found[2]:
            raise PowerError("trace: a write was cut short by strace")
        size, offset = (int(part) for part in rest[found.end() :].strip(" ,)").split(", "))
        data = decode(found[1])
        if len(data) != size:
            raise PowerError(f"trace: {len(data)} bytes of {size} of a write to {file}")
        self.events.append(Event("write", file, offset=offset, data=data[:count]))

    def open(self, name, rest):
        given = STRING.search(rest)
        file = self.mine(decode(given[1]).decode()) if given else None
        if file is None:
            return
        flags = rest[given.end() :]
        if file not in self.names and ("O_CREAT" in flags or name == "creat"):
            self.names.add(file)
            self.events.append(Event("create", file))
        elif "O_TRUNC" in flags or name == "creat":
            self.events.append(Event("truncate", file, length=0))

    def unfinished(self, text):
        name, rest, path = self.split(text)
        file = self.mine(path)
        if file is None or name in ("fdatasync", "fsync", "openat"):
            return
        if name != "pwrite64":
            raise PowerError(f"trace: the end of the process cut {name} on {file} off")
        found = STRING.search(rest)
        data, offset = decode(found[1]), int(rest.rpartition(",")[2].strip(" )"))
        there = self.actual / file
        if there.exists():
            there = there.read_bytes()[offset : offset + len(data)]
            if there == data:
                self.events.append(Event("write", file, offset=offset, data=data))
