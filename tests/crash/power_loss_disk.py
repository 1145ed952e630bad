"""
A disk that is honest and no more than that: from the events of a trace to the files after a power cut. Pure.
"""

from dataclasses import dataclass, field

# How an image is made of what was not synced, with shares.
MODES = {"nothing": 3, "everything": 1, "some": 3, "torn": 4, "garbage": 2, "names only": 1, "data only": 1}


@dataclass
class Inode:
    """A file's bytes on the platter, and the changes that are still on their way, each with its event's position."""

    platter: bytearray = field(default_factory=bytearray)
    pending: list = field(default_factory=list)


def change(content, event, data=None):
    """Apply a write or a truncation."""
    if event.kind == "truncate":
        del content[event.length :]
        content.extend(bytes(event.length - len(content)))
        return
    data = event.data if data is None else data
    if len(content) < event.offset:
        content.extend(bytes(event.offset - len(content)))
    content[event.offset : event.offset + len(data)] = data


class Disk:
    """The files as an honest disk and a POSIX file system may keep them."""

    def __init__(self, files=None, acks=()):
        inodes = {name: Inode(bytearray(content)) for name, content in (files or {}).items()}
        self.names, self.now = inodes, dict(inodes)  # durable, and as programs see them
        self.pending = []  # changes of names: position, event, inode
        self.acks = list(acks)  # what was promised

    def step(self, position, event):
        kind = event.kind
        if kind in ("write", "truncate"):
            self.now[event.name].pending.append((position, event))
        elif kind == "sync":
            inode = self.now[event.name]
            done = [change_ for change_ in inode.pending if change_[0] < event.since]
            inode.pending = [change_ for change_ in inode.pending if change_[0] >= event.since]
            for _, change_ in done:
                change(inode.platter, change_)
        elif kind == "sync folder":
            done = [entry for entry in self.pending if entry[0] < event.since]
            self.pending = [entry for entry in self.pending if entry[0] >= event.since]
            for _, change_, inode in done:
                self.rename(self.names, change_, inode)
        elif kind in ("create", "unlink", "rename"):
            inode = Inode() if kind == "create" else self.now[event.name]
            self.rename(self.now, event, inode)
            self.pending.append((position, event, inode))
        elif kind == "ack":
            self.acks.append(event.facts)

    @staticmethod
    def rename(names, event, inode):
        if event.kind == "create":
            names[event.name] = inode
        elif event.kind == "unlink":
            if names.get(event.name) is inode:
                del names[event.name]
        else:
            names.pop(event.name, None)
            names[event.other] = inode

    def visible(self):
        """The files as programs see them: what a kill without a power loss leaves."""
        return {name: self.content(inode, lambda event: event.data) for name, inode in self.now.items()}

    @staticmethod
    def content(inode, choose):
        content = bytearray(inode.platter)
        for _, event in inode.pending:
            if event.kind == "truncate":
                if choose(event) is not None:
                    change(content, event)
            else:
                data = choose(event)
                if data is not None:
                    change(content, event, data if isinstance(data, bytes) else data(content, event))
        return bytes(content)

    def image(self, mode, rng):
        """The files after a power cut now, by name."""
        share = {"nothing": 0.0, "everything": 1.0, "names only": 0.0, "data only": 1.0}.get(mode)
        if share is None:
            share = rng.choice((0.1, 0.5, 0.9))
        for_names = {"names only": 1.0, "data only": 0.0}.get(mode, share)
        names = dict(self.names)
        for _, event, inode in self.pending:
            if rng.random() < for_names:
                self.rename(names, event, inode)

        def choose(event):
            if rng.random() >= share:
                return None
            if event.kind == "truncate" or mode not in ("torn", "garbage") or rng.random() < 0.4:
                return event.data
            return lambda content, event: tear(content, event, rng, garbage=mode == "garbage")

        return {name: self.content(inode, choose) for name, inode in names.items()}


def tear(content, event, rng, *, garbage):
    """A write of which only some sectors reached the disk."""
    sector = rng.choice((512, 4096))
    old = bytes(content[event.offset : event.offset + len(event.data)])
    old += bytes(len(event.data) - len(old))  # beyond the old end: zeros, as after a write of the length alone
    prefix_only, stop = rng.random() < 0.5, rng.random()
    parts, start = [], 0
    while start < len(event.data):
        end = min(len(event.data), (event.offset + start) // sector * sector + sector - event.offset)
        kept = start < stop * len(event.data) if prefix_only else rng.random() < 0.5
        if kept:
            parts.append(event.data[start:end])
        elif garbage and rng.random() < 0.5:
            parts.append(rng.randbytes(end - start))
        else:
            parts.append(old[start:end])
        start = end
    return b"".join(parts)
