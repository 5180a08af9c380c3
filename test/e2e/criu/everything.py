"""Holds one of everything that CRIU has a kind of image for, says 'ready' on a file, and waits.

usage: everything.py FOLDER WHAT...      WHAT: pipes unix tcp poll notify pty files shared threads timers sqlite tree
"""
import ctypes
import mmap
import os
import select
import signal
import socket
import sys
import threading
import time

folder, wanted = sys.argv[1], sys.argv[2:]
libc = ctypes.CDLL(None, use_errno=True)
kept = []  # whatever must stay open


def pipes():
    read, write = os.pipe()
    os.write(write, b"on the way through a pipe" * 10)
    kept.extend((read, write))
    fifo = os.path.join(folder, "fifo")
    os.mkfifo(fifo)
    end = os.open(fifo, os.O_RDWR)
    os.write(end, b"in the fifo")
    kept.append(end)


def unix():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    one.send(b"queued bytes")
    packet, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    packet.send(b"first")
    packet.send(b"second")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.path.join(folder, "socket"))
    listener.listen(3)
    abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    abstract.bind("\0imago test %d = \xe9" % os.getpid())
    kept.extend((one, other, packet, receiver, listener, abstract))


def tcp():
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.bind((address, 0))
        listener.listen(5)
        kept.append(listener)
    client = socket.create_connection(kept[-2].getsockname())
    server, _ = kept[-2].accept()
    client.send(b"not read yet")
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    kept.extend((client, server, udp))


def poll():
    event = os.eventfd(42)
    epoll = select.epoll()
    epoll.register(event, select.EPOLLIN)
    timer = libc.timerfd_create(time.CLOCK_MONOTONIC, 0)
    libc.timerfd_settime(timer, 0, (ctypes.c_long * 4)(3, 5, 1000, 7), None)
    mask = (ctypes.c_ulong * 16)(1 << (signal.SIGUSR1 - 1))
    signals = libc.signalfd(-1, mask, 0)
    kept.extend((event, epoll, timer, signals))


def notify():
    watch = libc.inotify_init()
    libc.inotify_add_watch(watch, folder.encode(), 0x100)
    kept.append(watch)


def pty():
    master, slave = os.openpty()
    os.write(slave, b"to the master")
    kept.extend((master, slave))


def files():
    name = os.path.join(folder, "deleted \xfc.txt")
    gone = open(name, "w+")
    gone.write("still here\n" * 100)
    gone.flush()
    os.unlink(name)
    appended = open(os.path.join(folder, "appended.txt"), "a")
    appended.write("hello")
    appended.flush()
    libc.flock(appended.fileno(), 2)
    kept.extend((gone, appended, os.open(folder, os.O_RDONLY | os.O_DIRECTORY)))


def shared():
    anonymous = mmap.mmap(-1, 64 * 1024)
    anonymous.write(b"shared" * 1000)
    memfd = os.memfd_create("imago")
    os.ftruncate(memfd, 8192)
    mapped = mmap.mmap(memfd, 8192)
    mapped.write(b"memfd")
    kept.extend((anonymous, memfd, mapped))


def threads():
    for i in range(50):
        threading.Thread(target=threading.Event().wait, daemon=True, name="t%d" % i).start()


def timers():
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 500, 0.25)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    os.kill(os.getpid(), signal.SIGUSR2)
    os.nice(3)


def sqlite():
    """A database in the middle of a transaction, fed through a pipe."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.dup2(read, 0)
        os.closerange(3, 256)
        os.execlp("sqlite3", "sqlite3", os.path.join(folder, "data.db"))
    os.close(read)
    os.write(write, b"create table t(x); begin; insert into t values(1), (2);\n")
    kept.append(write)


def tree():
    """Processes three levels deep, 12 times LEAVES of them at the bottom, and one zombie."""
    leaves = int(os.environ["LEAVES"])
    for i in range(12):
        if os.fork() == 0:
            for _ in range(leaves):
                if os.fork() == 0:
                    os.execlp("sleep", "sleep", "1000")
            if i == 3 and os.fork() == 0:
                os._exit(7)
            signal.pause()


for what in wanted:
    globals()[what]()
time.sleep(0.2)
with open(os.path.join(folder, "ready"), "w") as ready:
    ready.write("ready\n")
while True:
    signal.pause()
