"""Threads, tasks, processes and what runs later"""

import asyncio
import atexit
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.db.backends.signals import connection_created
from django.db.models.signals import post_init

from config.env import PROJECT
from tenants.connections import _all_wrappers
from tests.hostile.mechanism import BINDING, OPEN, UNBOUND, Verdict, mechanism, read
from tests.hostile.mechanisms.aliases import kept_connection
from tests.hostile.mechanisms.bindings import KEYS

STAYS = (
    "Nothing: code that stays in a process runs inside whatever work comes next, as its plane. A job runs in a child "
    "that ends with it; web processes are replaced when they are restarted."
)


def names():
    return sorted(Group.objects.values_list("name", flat=True))


def bound_names(aim):
    with aim.bind():
        return names()


def in_thread(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def thread_of_its_own(aim):
    """The control: bound, it works."""
    return in_thread(lambda: bound_names(aim))


def read_kept(aim):
    return read(aim.kept.cursor())


async def async_names(aim):
    async with aim.bind():
        return [name async for name in Group.objects.values_list("name", flat=True)]


@mechanism("a thread", UNBOUND, control=thread_of_its_own)
def thread(aim):
    """A plain thread starts unbound."""
    caught = []

    def work():
        try:
            aim.loot.append(names())
        except Exception as error:
            caught.append(error)

    started = threading.Thread(target=work)
    started.start()
    started.join()
    raise caught[0]


@mechanism("an executor", UNBOUND, control=thread_of_its_own)
def executor(aim):
    """`ThreadPoolExecutor`: its threads are unbound."""
    return in_thread(names)


def shared(aim, context):
    def work():
        with context():
            return read(aim.kept.cursor())

    aim.kept.inc_thread_sharing()
    return in_thread(work)


@mechanism("a kept connection in a thread", UNBOUND, keep=kept_connection, control=lambda aim: shared(aim, aim.bind))
def connection_in_thread(aim):
    """A connection of earlier work, shared with a thread."""
    return shared(aim, nullcontext)


@mechanism("an event loop of its own", BINDING)
def own_loop(aim):
    """`asyncio.run()`: its tasks have what was bound around it."""
    return async_to_sync(async_names)(aim)


@mechanism("create_task()", BINDING)
def task(aim):
    """A task in an event loop of its own."""

    async def work():
        return await asyncio.create_task(async_names(aim))

    return asyncio.run(work())


@mechanism("to_thread()", BINDING)
def to_thread(aim):
    """`asyncio.to_thread()` takes the binding along."""
    return asyncio.run(asyncio.to_thread(bound_names, aim))


@mechanism("sync_to_async()", BINDING)
def another_thread(aim):
    """`sync_to_async(thread_sensitive=False)` takes the binding along."""
    return async_to_sync(sync_to_async(bound_names, thread_sensitive=False))(aim)


@mechanism("an event loop's executor", UNBOUND, control=thread_of_its_own)
def loop_executor(aim):
    """`loop.run_in_executor()`: unbound."""

    async def work():
        return await asyncio.get_running_loop().run_in_executor(None, names)

    return asyncio.run(work())


def in_child(work) -> str:
    """What it says, and as whom, in a forked child; errors by name."""
    source, sink = os.pipe()
    if (child := os.fork()) == 0:
        try:
            said = repr(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(sink, said.encode())
        os._exit(0)
    os.close(sink)
    os.waitpid(child, 0)
    with open(source) as file:
        return file.read()


def child_of_its_own(aim):
    return in_child(lambda: bound_names(aim))


@mechanism("a forked child", Verdict("binding"), control=child_of_its_own)
def forked(aim):
    """`os.fork()`: the child is unbound, and reads nothing."""
    return in_child(names)


@mechanism(
    "a forked child with a kept connection",
    Verdict("connection"),
    keep=kept_connection,
    control=child_of_its_own,
)
def forked_with_connection(aim):
    """The child has the object, and no handle in it."""
    return in_child(lambda: read(aim.kept.cursor()))


@mechanism(
    "a forked child with a kept driver's handle",
    Verdict("connection"),
    control=child_of_its_own,
)
def forked_with_handle(aim):
    """The child looks for handles in the connections that it inherited: they are taken out of them."""

    def work():
        return [read(wrapper.connection.cursor()) for wrapper in _all_wrappers if wrapper.connection is not None]

    return in_child(work)


@mechanism(
    "a function that runs when the process ends",
    Verdict("binding"),
    control=thread_of_its_own,
)
def at_exit(aim):
    """`atexit`: nothing is bound then."""

    def work():
        try:
            aim.loot.append(names())
        except Exception as error:
            aim.loot.append(type(error).__name__)

    atexit.register(work)
    in_thread(atexit._run_exitfuncs)


@mechanism(
    "a finaliser with a kept connection",
    Verdict("connection"),
    keep=kept_connection,
    control=lambda aim: read(aim.kept.cursor()),
)
def finaliser(aim):
    """`weakref.finalize`, run while something else is bound."""
    aim.kept.close()

    class Anything:
        pass

    def work(kept=aim.kept, loot=aim.loot):
        try:
            loot.append(read(kept.cursor()))
        except Exception as error:
            loot.append(type(error).__name__)

    anything = Anything()
    weakref.finalize(anything, work)
    del anything


@mechanism("a thread that binds another plane", OPEN, outer=KEYS)
def binding_thread(aim):
    """A thread is unbound, and so free to bind another."""
    return in_thread(lambda: bound_names(aim))


@mechanism("a forked child that binds another plane", OPEN, outer=KEYS)
def binding_child(aim):
    """So is a child."""
    return in_child(lambda: bound_names(aim))


@mechanism(
    "a process of its own",
    OPEN,
    aims=("globex",),
    doors=("job",),
    outer="Key separation, as far as the files with keys cannot be read and the environment does not hold them. "
    "Engines, and what parses their output, are run without either.",
)
def subprocess_with_environment(aim):
    """`manage.py tenant_command globex dumpdata` with the environment that the process has."""
    command = [sys.executable, "manage.py", "tenant_command", aim.slug, "dumpdata", "auth.Group"]
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings"}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=25).stdout


@mechanism("a signal handler", OPEN, later=True, outer=STAYS)
def signal_handler(aim):
    """`signal.signal(...)`: it runs in the midst of whatever the main thread does."""
    signal.signal(signal.SIGUSR1, lambda *args: aim.loot.append(names()))


@mechanism("a destructor that runs in other work", OPEN, later=True, outer=STAYS)
def destructor(aim):
    """A cycle with a `__del__`: it runs wherever the collector does."""

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self, names=names, loot=aim.loot):
            loot.append(names())

    gc.disable()
    Cycle()


@mechanism("a receiver of a model's signal", OPEN, later=True, outer=STAYS)
def model_signal(aim):
    """`post_init.connect(...)`: it is handed other work's objects."""

    def steal(instance, **kwargs):
        aim.loot.append(instance.name)

    post_init.connect(steal, sender=Group, weak=False)
    original = Group.objects.values_list
    type(Group.objects).values_list = lambda self, *args, **kwargs: (list(self.all()), original(*args, **kwargs))[1]


@mechanism("a receiver of connection_created", OPEN, later=True, outer=STAYS)
def connection_signal(aim):
    """`connection_created.connect(...)`: it is handed other work's connections."""
    connection_created.connect(lambda connection, **kwargs: aim.loot.append(read(connection.cursor())), weak=False)


@mechanism("a patched function of the application", OPEN, later=True, outer=STAYS)
def patched_function(aim):
    """A method of a model's manager, replaced by one that keeps what it returns."""
    manager = type(Group.objects)
    original = manager.get_queryset

    def keeping(self):
        rows = original(self)
        aim.loot.append([group.name for group in rows.all()])
        return rows

    manager.get_queryset = keeping
