"""`/api/v1`, the writing half: push, tags, removal, rollback."""

from __future__ import annotations

from aiohttp import web

from packregistry.changes import Removed
from packregistry.errors import BodyInvalidError, ParameterInvalidError
from packregistry.model import Json, PackName, Release, Tag, shown
from packregistry.pushes import Terms
from packregistry.web import representation as show
from packregistry.web.api import view_of
from packregistry.web.body import announced_digest, chunks, json_object, text_of
from packregistry.web.call import Call
from packregistry.web.render import json_response

MESSAGE_MAX = 1000
_YES = {"true": True, "1": True, "false": False, "0": False}


async def push(call: Call) -> web.StreamResponse:
    """Publish the pack in the archive that is the body."""
    terms = terms_of(call, call.query("force", "message", "skipDigestCheck"))
    published = await call.site.pushes.push(chunks(call), terms, announced_digest(call))
    release = release_json(call, published.name, published.release)
    status = 200 if published.action == "unchanged" else 201
    return json_response(
        {"action": published.action, "release": release}, status=status, headers={"Location": release["url"]}
    )


async def put_tag(call: Call) -> web.StreamResponse:
    """Let a tag stand for a version."""
    call.query()
    document = await json_object(call, "version", "group", "message")
    new = Tag.of_version(call.params["tag"], text_of(document, "group")) if "group" in document else tag_of(call)
    target = Tag.parse(text_of(document, "version"))
    message = message_of(text_of(document, "message"))
    release = await call.site.registry.tag(call.name, new, target, by=call.actor, message=message)
    return json_response({"tag": new, "version": release.tag})


async def delete_tag(call: Call) -> web.StreamResponse:
    """Remove a tag, and with its last tag a version."""
    message = message_of(call.query("message").get("message", ""))
    old = Tag.parse(call.params["tag"])
    removed = await call.site.registry.untag(call.name, old, by=call.actor, message=message)
    return json_response(removed_json(removed))


async def delete_version(call: Call) -> web.StreamResponse:
    """Remove a version with all its tags."""
    message = message_of(call.query("message").get("message", ""))
    tag = Tag.parse(call.params["tag"])
    removed = await call.site.registry.remove(call.name, tag, by=call.actor, message=message)
    return json_response(removed_json(removed))


async def rollback(call: Call) -> web.StreamResponse:
    """Bring back what a version held before."""
    call.query()
    document = await json_object(call, "tag", "to", "message")
    wanted, entry = Tag.parse(text_of(document, "tag")), entry_of(document)
    message = message_of(text_of(document, "message"))
    release = await call.site.registry.restore(call.name, wanted, entry, by=call.actor, message=message)
    return json_response({"action": "restored", "release": release_json(call, call.name, release)})


def terms_of(call: Call, query: dict[str, str]) -> Terms:
    """What a push insists on. Raises `ParameterInvalidError`."""
    return Terms(
        by=call.actor,
        force=flag(query, "force"),
        message=message_of(query.get("message", "")),
        skip_digest_check=flag(query, "skipDigestCheck"),
    )


def flag(query: dict[str, str], name: str) -> bool:
    """A yes or no in a query; absent is no. Raises `ParameterInvalidError`."""
    value = _YES.get(query.get(name, "false").lower())
    if value is None:
        raise ParameterInvalidError(f"{name}={shown(query[name])} is neither yes nor no", remedy="use true or false")
    return value


def message_of(text: str) -> str:
    """A message for the history. Raises `ParameterInvalidError` where it is too long for one."""
    if len(text) > MESSAGE_MAX:
        raise ParameterInvalidError(f"the message has {len(text)} characters", remedy=f"use up to {MESSAGE_MAX}")
    return text


def entry_of(document: Json) -> int | None:
    """The id of a history entry in a JSON body. Raises `BodyInvalidError`."""
    entry = document.get("to")
    if entry is not None and (type(entry) is not int or entry < 1):
        raise BodyInvalidError('"to" is not the id of a history entry', remedy="use a number from 1")
    return entry


def tag_of(call: Call) -> Tag:
    """The tag of the path as one that an operator may add: of the server's own only versions' tags are like that."""
    tag = Tag.parse(call.params["tag"])
    return Tag.of_version(tag.label, tag.group)


def release_json(call: Call, name: PackName, release: Release) -> Json:
    """A release as it is listed, with its pack's name."""
    return {"name": name, **show.release_summary(view_of(call), call.site.registry.pack(name), release)}


def removed_json(removed: Removed) -> Json:
    """What a removal took away."""
    return {"deleted": list(removed.tags), "release": removed.release.tag if removed.release else None}
