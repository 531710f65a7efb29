"""Streamed bodies that say what each of their steps is bound to, and what their end is."""

import asyncio
import logging

from django.http import StreamingHttpResponse
from django.urls import path

from tenants.accounts.models import User
from tenants.context import after_unbind
from tenants.planes import current

ends: list[str] = []
told: list[str] = []


def bound():
    return str(current() or "nothing")


def rows():
    try:
        for _ in range(3):
            yield f"{bound()} {User.objects.count()}\n"
    finally:
        ends.append(f"{bound()} {User.objects.count()}")


async def rows_async():
    try:
        for _ in range(3):
            await asyncio.sleep(0)
            yield f"{bound()} {await User.objects.acount()}\n"
    finally:
        ends.append(f"{bound()} {await User.objects.acount()}")


def tell(step):
    after_unbind(lambda: told.append(f"{step} {bound()}"))


def telling():
    try:
        for number in range(2):
            tell(f"step {number}")
            yield f"{len(told)} told\n"
    finally:
        tell("end")


async def telling_async():
    try:
        for number in range(2):
            await asyncio.sleep(0)
            tell(f"step {number}")
            yield f"{len(told)} told\n"
    finally:
        tell("end")
        ends.append(bound())


def logging_step():
    logging.getLogger("bulkhead").warning("a step")
    yield "a step"


def failing():
    try:
        yield bound()
        raise ValueError("a bug")
    finally:
        ends.append(bound())


async def endless():
    try:
        while True:
            await asyncio.sleep(0.001)
            yield bound()
    finally:
        ends.append(bound())


async def endless_telling():
    try:
        while True:
            await asyncio.sleep(0.001)
            yield bound()
    finally:
        after_unbind(lambda: ends.append(f"told in {bound()}"))


async def one_and_wait():
    try:
        yield bound()
        await asyncio.Event().wait()
    finally:
        ends.append(bound())


def stream(body):
    def view(request):
        return StreamingHttpResponse(body())

    return view


async def stream_async(request):
    return StreamingHttpResponse(rows_async())


async def wait_for_ever(request):
    try:
        await asyncio.Event().wait()
    finally:
        ends.append(bound())


stream_urls = [
    path("rows/", stream(rows)),
    path("rows-async/", stream_async),
    path("rows-async-from-sync/", stream(rows_async)),
    path("telling/", stream(telling)),
    path("telling-async/", stream(telling_async)),
    path("logging/", stream(logging_step)),
    path("failing/", stream(failing)),
    path("endless/", stream(endless)),
    path("endless-telling/", stream(endless_telling)),
    path("one-and-wait/", stream(one_and_wait)),
    path("wait/", wait_for_ever),
]
