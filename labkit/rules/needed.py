"""Which volumes a recovery is about: by its scope, from Git, the living cluster and the backup store. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from labkit.errors import InputError, Mistake
from labkit.facts.backups import StoreFacts
from labkit.facts.git import GitFacts
from labkit.facts.longhorn import LonghornFacts, Volume
from labkit.facts.restore import KEPT, RESTORED, GitClaim, HolderFacts, WantedVolume, claim_label
from labkit.rules.claims import git_claims, living_claims, stored_claims
from labkit.rules.restore import restore_changes
from labkit.rules.restore_choice import current_volume, parse_moment, wanted_volumes

SCOPES = ("lab", "apps", "volume")


@dataclass(frozen=True)
class Goal:
    """What a recovery is asked for, as the parameters of its runbook say it.

    Attributes:
        scope: `lab` when everything is gone but Git, the keys and the NAS; `apps`; `volume`.
        apps: with scope `apps`, workloads, or folders of the repository that claims stand in.
        volumes: with scope `volume`, claims; with the others, claims beside those that they mean. `namespace/name`, or
            `namespace/name@volume` to take the backups of one volume of the store; `namespace/name=volume` to go to a
            volume of the cluster as it is: back to one that was kept.
        restore_as_of: UTC; the newest backup at or before it is taken, never a later one; the newest when empty.
        empty: claims that have no backup to come back from, and may begin empty.
        confirm: the lab's name.
    """

    scope: str = "lab"
    apps: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    restore_as_of: str = ""
    empty: tuple[str, ...] = ()
    confirm: str = ""


def recovery_goal(
    *,
    scope: str = "lab",
    apps: Iterable[str] = (),
    volumes: Iterable[str] = (),
    restore_as_of: str = "",
    empty: Iterable[str] = (),
    confirm: str = "",
) -> Goal:
    """Return what is asked for, from the parameters of the notebook.

    Raises:
        InputError: a parameter makes no sense, or two do not fit each other.
    """
    goal = Goal(scope, tuple(apps), tuple(volumes), restore_as_of, tuple(empty), confirm)
    if mistakes := list(_mistakes(goal)):
        raise InputError(mistakes)
    parse_moment(restore_as_of)
    return goal


def _mistakes(goal: Goal) -> Iterator[Mistake]:
    if goal.scope not in SCOPES:
        yield Mistake("parameters", 0, 0, "scope", f"one of {', '.join(SCOPES)}", repr(goal.scope))
    if goal.scope == "apps" and not goal.apps and goal.volumes:
        yield Mistake("parameters", 0, 0, "apps", "apps by name, or scope=volume for single volumes", "none")
    if goal.scope in ("lab", "volume") and goal.apps:
        yield Mistake("parameters", 0, 0, "apps", f"none with scope={goal.scope}", ", ".join(goal.apps))


def needed_volumes(facts: Mapping[str, Any], goal: Goal) -> tuple[WantedVolume, ...]:
    """Return the volumes that a recovery needs, each with the backup that it shall come from.

    Args:
        facts: `git`, `longhorn-if-any`, `holders` and `verified`, as they were seen just now.
        goal: what is asked for.

    Raises:
        InputError: with every name that stands for nothing, or a moment that has not come.
    """
    git: GitFacts = facts["git"]
    seen: LonghornFacts = facts["longhorn-if-any"]
    longhorn = seen if seen.installed or seen.claims else None
    store: StoreFacts = facts["verified"]
    known = {one.id: one for one in (git_claims(git.cluster) if git.cluster is not None else ())}
    names = _Names(known, longhorn, store, facts["holders"])
    mistakes = list(_check_moment(goal.restore_as_of, store))
    chosen = names.all_of(goal.volumes, mistakes)
    if goal.scope == "lab":
        chosen = {**known, **chosen}
    elif goal.scope == "apps":
        chosen = {**names.of_apps(goal.apps, mistakes), **chosen}
    blank = names.all_of(goal.empty, mistakes, where="empty")
    if mistakes:
        raise InputError(mistakes)
    found = wanted_volumes(
        [chosen[name] for name in sorted(chosen)], store, as_of=parse_moment(goal.restore_as_of), longhorn=longhorn,
        sources=names.sources,
    )  # fmt: skip
    return tuple(_as_asked(one, names, blank) for one in found)


def _as_asked(one: WantedVolume, names: _Names, blank: Mapping[str, GitClaim]) -> WantedVolume:
    if (volume := names.uses.get(one.id)) is not None:
        return WantedVolume(claim=one.claim, use=volume.name, size=volume.size)
    return one.model_copy(update={"may_be_empty": True}) if one.problem and one.id in blank else one


def to_restore(facts: Mapping[str, Any], goal: Goal) -> frozenset[str]:
    """Return the claims, `namespace/name`, that a restore is still to be begun for."""
    longhorn: LonghornFacts = facts["longhorn-if-any"]
    living = longhorn if longhorn.installed or longhorn.claims else None
    changes = restore_changes(needed_volumes(facts, goal), living, facts["holders"], replace=goal.scope != "lab")
    return frozenset(str(one.after["claim"]) for one in changes if one.kind == "restored-volume" and not one.before)


def _check_moment(text: str, store: StoreFacts) -> Iterator[Mistake]:
    moment = parse_moment(text)
    if moment is not None and moment > store.read_at:
        expected = "a moment that has passed, or nothing for the newest"
        yield Mistake("parameters", 0, 0, "restore_as_of", expected, text)


class _Names:
    """What names in parameters stand for."""

    def __init__(
        self, git: Mapping[str, GitClaim], longhorn: LonghornFacts | None, store: StoreFacts, holders: HolderFacts
    ) -> None:
        self._git, self._longhorn, self._store, self._holders = git, longhorn, store, holders
        living = {f"{one.namespace}/{one.name}" for one in longhorn.claims} if longhorn is not None else set()
        stored = {f"{one.namespace}/{one.claim}" for one in store.volumes if one.claim}
        self._everything = sorted({*git, *living, *stored})
        self.sources: dict[str, str] = {}
        self.uses: dict[str, Volume] = {}

    def all_of(self, names: Iterable[str], mistakes: list[Mistake], *, where: str = "volumes") -> dict[str, GitClaim]:
        """Return the claims that names stand for: `namespace/name` or `name`, perhaps with `@volume` of the store."""
        found: dict[str, GitClaim] = {}
        for text in names:
            name, mark, source = text.partition("=") if "=" in text else text.partition("@")
            fits = [one for one in self._everything if name in (one, one.partition("/")[2])]
            claim = self._claim(fits[0]) if len(fits) == 1 else None
            if claim is None:
                expected = "a claim on Longhorn, namespace/name"
                mistakes.append(
                    Mistake("parameters", 0, 0, where, expected, text, _near(name, fits or self._everything))
                )
                continue
            if (mistake := self._note_source(claim, mark, source)) is not None:
                mistakes.append(Mistake("parameters", 0, 0, where, *mistake))
                continue
            found[claim.id] = claim
        return found

    def _note_source(self, claim: GitClaim, mark: str, source: str) -> tuple[str, str, str] | None:
        """Note which volume a claim is to come from; return what is wrong with it: expected, got, hint."""
        if mark == "@":
            if self._store.volume(source) is None:
                return "a volume of the backup store", source, _near(source, [one.name for one in self._store.volumes])
            self.sources[claim.id] = source
        elif mark == "=":
            label = claim_label(claim.namespace, claim.name)
            living = self._longhorn.volumes if self._longhorn is not None else ()
            now = current_volume(claim, self._longhorn)
            mine = {one.name: one for one in living
                    if one == now or label in (one.labels.get(KEPT), one.labels.get(RESTORED))}  # fmt: skip
            if source not in mine:
                return f"a volume that was kept or restored for {claim.id}", source, _near(source, sorted(mine))
            self.uses[claim.id] = mine[source]
        return None

    def _claim(self, name: str) -> GitClaim | None:
        if name in self._git:
            return self._git[name]
        living = living_claims(self._longhorn, [name]) if self._longhorn is not None else ()
        return next(iter((*living, *stored_claims(self._store, [name]))), None)

    def of_apps(self, apps: Iterable[str], mistakes: list[Mistake]) -> dict[str, GitClaim]:
        """Return the claims of apps: a workload's name, or the folder in Git that a claim stands in."""
        found: dict[str, GitClaim] = {}
        for app in apps:
            mine = {name: claim for name in self._of_app(app) if (claim := self._claim(name)) is not None}
            if not mine:
                mistakes.append(Mistake("parameters", 0, 0, "apps", "an app with volumes on Longhorn", app,
                                        _near(app, self._apps())))  # fmt: skip
            found |= mine
        return found

    def _of_app(self, app: str) -> list[str]:
        used = [f"{one.namespace}/{claim}" for one in self._holders.holders for claim in one.claims
                if app in (one.name, f"{one.namespace}/{one.name}")]  # fmt: skip
        folder = [one.id for one in self._git.values() if _folder(one) == app]
        return sorted({*used, *folder} & {*self._git, *self._everything})

    def _apps(self) -> list[str]:
        folders = {_folder(one) for one in self._git.values()}
        return sorted({*folders, *(one.name for one in self._holders.holders if one.claims)} - {""})


def _folder(claim: GitClaim) -> str:
    return PurePosixPath(claim.place.partition(":")[0]).parent.name


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1) or ([known[0]] if len(known) == 1 else [])
    if near:
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(known)}" if known else ""
