"""
How long a python3 job that logs to a file stands still for a checkpoint, and for a fork alone: by turns, some rounds of each. Prints the medians and
the least in nanoseconds, as standstill.c does: "CHECKPOINT FORK CHECKPOINT FORK".

  usage: logging.py LOG ROUNDS        with libckpt.so inside, and IMAGO_OUTPUT the name of the image
"""
import os
import signal
import sys
import time

log = open(sys.argv[1], "a")
rounds = int(sys.argv[2])
image = os.environ["IMAGO_OUTPUT"]
times = {"checkpoint": [], "fork": []}


def fork():
    child = os.fork()
    if child == 0:
        time.sleep(60)  # it holds its copy, as a writer does
        os._exit(0)
    return child


for number in range(rounds):
    for i in range(20):
        print(f"round {number}: step {i} done", file=log, flush=True)
    if os.path.exists(image):
        os.unlink(image)
    begun = time.monotonic_ns()
    os.kill(os.getpid(), signal.SIGUSR2)
    times["checkpoint"].append(time.monotonic_ns() - begun)
    while not os.path.exists(image):
        time.sleep(0.02)
    time.sleep(0.02)  # the writer has some things left to do then
    begun = time.monotonic_ns()
    child = fork()
    times["fork"].append(time.monotonic_ns() - begun)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    time.sleep(0.02)

print(*(sorted(each)[rounds // 2] for each in times.values()), *(min(each) for each in times.values()))
