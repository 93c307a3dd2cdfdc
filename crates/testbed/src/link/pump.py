"""Carries packets between two TUN devices as a line between two places would.

pump.py CONTROL DEVICE_A DEVICE_B RATE DELAY QUEUE LOSS SEED

RATE is in bytes a second, DELAY in seconds one way, QUEUE in bytes that wait for the line (more are
dropped, as a router does), LOSS the share of packets that vanish. It listens on the unix socket
CONTROL for one command a connection, `down`, `up`, `loss SHARE` or `counts`, and answers each with
the counts. It ends with its standard input.
"""

import collections
import errno
import fcntl
import json
import os
import random
import select
import socket
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_BYTES_MAX = 65536
# How many packets of one side are taken before the other side is looked at.
TAKEN_MAX = 64
COMMAND_SECONDS_MAX = 5


def device(name):
    """Makes a TUN device; it lives as long as the descriptor, wherever it is moved."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


class Way:
    """One direction."""

    def __init__(self, source, sink, seed):
        self.source, self.sink = source, sink
        self.random = random.Random(seed)
        # When the line has sent all that waits, and what is on its way: (due, packet).
        self.free = 0.0
        self.flying = collections.deque()
        self.counts = dict.fromkeys(("packets", "bytes", "lost", "full", "down"), 0)

    def take(self, line):
        """Takes what the source has sent."""
        for _ in range(TAKEN_MAX):
            try:
                packet = os.read(self.source, PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            # Chatter of IPv6 about neighbours, which nobody asked for, does not count.
            if packet[0] >> 4 != 4:
                continue
            now = time.monotonic()
            waiting = max(0.0, self.free - now) * line.rate
            if not line.is_up:
                self.counts["down"] += 1
            elif waiting + len(packet) > line.queue:
                self.counts["full"] += 1
            else:
                self.free = max(now, self.free) + len(packet) / line.rate
                # What is lost is lost on the line, and has taken its time there.
                if self.random.random() < line.loss:
                    self.counts["lost"] += 1
                else:
                    self.flying.append((self.free + line.delay, packet))

    def deliver(self):
        """Hands over what is due."""
        while self.flying and self.flying[0][0] <= time.monotonic():
            packet = self.flying.popleft()[1]
            try:
                os.write(self.sink, packet)
            except OSError as error:
                # A device that is not up yet takes nothing.
                if error.errno != errno.EIO:
                    raise
            self.counts["packets"] += 1
            self.counts["bytes"] += len(packet)

    def cut(self):
        """What is on its way when the line goes down does not arrive."""
        self.counts["down"] += len(self.flying)
        self.flying.clear()
        self.free = 0.0


class Line:
    """The line, with both directions."""

    def __init__(self, a, b, rate, delay, queue, loss, seed):
        self.rate, self.delay, self.queue, self.loss = rate, delay, queue, loss
        self.is_up = True
        self.ways = Way(a, b, seed), Way(b, a, seed + 1)

    def obey(self, words):
        if words == ["down"]:
            self.is_up = False
            for way in self.ways:
                way.cut()
        elif words == ["up"]:
            self.is_up = True
        elif words[:1] == ["loss"]:
            self.loss = float(words[1])
        elif words != ["counts"]:
            raise ValueError(f"no such command: {words}")
        return json.dumps([way.counts for way in self.ways])


def answer(line, listener):
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(COMMAND_SECONDS_MAX)
        with connection.makefile("rw") as stream:
            print(line.obey(stream.readline().split()), file=stream, flush=True)


def main(control, name_a, name_b, rate, delay, queue, loss, seed):
    a, b = device(name_a), device(name_b)
    line = Line(a, b, float(rate), float(delay), int(queue), float(loss), int(seed))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(control)
    listener.listen()
    print("ready", flush=True)
    while True:
        for way in line.ways:
            way.deliver()
        due = min((way.flying[0][0] for way in line.ways if way.flying), default=None)
        wait = None if due is None else max(0.0, due - time.monotonic())
        ready = select.select([a, b, listener, sys.stdin], [], [], wait)[0]
        for way in line.ways:
            if way.source in ready:
                way.take(line)
        if listener in ready:
            answer(line, listener)
        if sys.stdin in ready:
            return


main(*sys.argv[1:])
