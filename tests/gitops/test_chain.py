"""What a wait along Flux's chain tells, when it is over, and when it gives up. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from labkit.facts.causes import causes
from labkit.facts.flux import NAMESPACE, Condition, FluxFacts, FluxObject
from labkit.facts.git import GitFacts
from labkit.gitssh import SshError, matching_keys, parse_call
from labkit.systems.access import Step
from labkit.systems.flux.chain import Goal, Watch, chain_order, left, short_revision, steady
from labkit.systems.flux.parse import parse_workload

NEW, OLD = "master@sha1:" + "b" * 40, "master@sha1:" + "a" * 40
SOURCE = f"GitRepository/{NAMESPACE}/{NAMESPACE}"


def one(kind: str, name: str, *, ready: str = "True", reason: str = "", message: str = "", **more: Any) -> FluxObject:
    conditions = (Condition(type="Ready", status=ready, reason=reason, message=message),)
    return FluxObject(kind=kind, namespace=NAMESPACE, name=name, conditions=conditions, **more)


def chain(*apps: FluxObject, artifact: str = NEW, applied: str = NEW) -> FluxFacts:
    root = one("Kustomization", NAMESPACE, source=SOURCE, applied=applied)
    source = one("GitRepository", NAMESPACE, artifact=artifact)
    return FluxFacts(objects=(source, root, *apps), read_at=datetime.now(UTC))


def app(name: str, **more: Any) -> FluxObject:
    return one("Kustomization", name, **{"source": SOURCE, "applied": NEW, **more})


def test_what_is_ready_at_the_revision_is_done() -> None:
    assert not left(chain(app("apps")), NEW)
    assert [item.name for item in left(chain(app("apps", applied=OLD)), NEW)] == ["apps"]
    assert len(left(chain(app("apps"), artifact=OLD, applied=OLD), NEW)) == 2


def test_what_sleeps_and_what_waits_for_it_does_not_count() -> None:
    asleep = app("configs", ready="Unknown", suspended=True, suspended_by="labkit")
    waits = app("apps", ready="False", reason="DependencyNotReady", needs=(asleep.id,))
    assert not left(chain(asleep, waits), NEW)


def test_a_branch_that_moves_on_while_we_wait_still_holds_our_commit() -> None:
    newer = "master@sha1:" + "c" * 40
    seen = chain(app("apps", applied=newer), artifact=newer, applied=newer)
    assert Goal(NEW, GitFactsNever, fits=lambda revision: revision == newer).waits_for(seen) == []
    assert Goal(NEW, GitFactsNever).waits_for(seen)
    assert Goal(NEW, GitFactsNever).waits_for(FluxFacts(read_at=datetime.now(UTC))) is None


def GitFactsNever() -> GitFacts:  # noqa: N802
    raise AssertionError("asked for Git without a failure")


def test_news_are_told_once_and_retries_are_none() -> None:
    said: list[str] = []
    now = [0.0]
    watch = Watch(lambda: now[0], Step(say=lambda text, _: said.append(text)), patience=100.0)
    watch.look(chain(app("apps", ready="Unknown", reason="Progressing")))
    assert not said
    stalled = "s: failed early due to stalled resources: [Deployment/default/jellyfin, Deployment/default/karakeep]"
    failing = app("apps", ready="False", reason="HealthCheckFailed", message=f"failed after 9m0.3{stalled}")
    watch.look(chain(failing))
    watch.look(chain(app("apps", ready="Unknown", reason="Progressing")))
    watch.look(chain(failing.model_copy(update={"conditions": (failing.conditions[0].model_copy(
        update={"message": f"failed after 0.712{stalled}"}),)})))  # fmt: skip
    assert len(said) == 1
    watch.look(chain(app("apps")))
    assert said[-1].strip() == "Kustomization apps: ready at master@sha1:bbbbbbb"


def test_a_pod_that_waits_for_its_volume_says_why() -> None:
    template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}
    item = {"metadata": {"name": "a", "namespace": "default"}, "status": {},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}, "template": template}}  # fmt: skip
    waiting = {"name": "a", "state": {"waiting": {"reason": "ContainerCreating"}}}
    pod = {"metadata": {"name": "a-1", "namespace": "default", "uid": "u1", "labels": {"app": "a"}},
           "status": {"phase": "Pending", "containerStatuses": [waiting]}}  # fmt: skip
    assert parse_workload(item, "Deployment", [pod]).problem == ""
    told = {"u1": "FailedMount: AttachVolume.Attach failed for volume pvc-1: not ready for workloads"}
    row = parse_workload(item, "Deployment", [pod], told)
    assert row.problem == told["u1"]
    message = "timeout waiting for: [Deployment/default/a status: 'InProgress']"
    seen = chain(app("apps", ready="False", reason="HealthCheckFailed", message=message))
    cause = causes(seen.model_copy(update={"workloads": (row,)}))[0]
    assert (cause.object, "Longhorn" in cause.remedy) == ("Deployment/default/a", True)


def test_a_cause_that_stays_ends_the_wait_and_one_that_goes_does_not() -> None:
    now = [0.0]
    watch = Watch(lambda: now[0], Step(), patience=100.0)
    failing = chain(app("apps", ready="False", reason="BuildFailed", message="no such file"))
    trying = chain(app("apps", ready="Unknown", reason="Progressing"))
    for moment, seen, stuck in ((0, failing, False), (90, trying, False), (101, trying, True)):
        now[0] = moment
        watch.look(seen)
        assert (watch.stuck(seen, causes(seen)) is not None) is stuck, moment
    now[0] = 300.0
    done = chain(app("apps"))
    watch.look(done)
    assert watch.stuck(done, causes(done)) is None


def test_what_flux_has_given_up_ends_the_wait_at_once_unless_it_was_so_before() -> None:
    given_up = (
        Condition(type="Ready", status="False", reason="InstallFailed", message="Helm install failed"),
        Condition(type="Stalled", status="True", reason="RetriesExceeded", message="Failed to install"),
    )
    trying, failed = app("charts", ready="Unknown", reason="Progressing"), app("charts").model_copy(
        update={"conditions": given_up}
    )  # fmt: skip
    watch = Watch(lambda: 0.0, Step(), patience=100.0)
    for one, ends in ((failed, False), (trying, False), (failed, True)):
        watch.look(chain(one))
        stuck = watch.stuck(chain(one), causes(chain(one)))
        assert (stuck is not None and stuck.message == "Helm install failed") is ends


def test_a_chain_has_its_order() -> None:
    first = app("controllers")
    last = app("apps", needs=(first.id,))
    names = [item.name for _, item in chain_order(chain(last, first).objects)]
    assert names.index("controllers") < names.index("apps")
    circle = (app("a", needs=(f"Kustomization/{NAMESPACE}/b",)), app("b", needs=(f"Kustomization/{NAMESPACE}/a",)))
    assert len(chain_order(circle)) == 2


def test_texts_for_people() -> None:
    assert short_revision(NEW) == "master@sha1:bbbbbbb"
    assert short_revision("1.2.3") == "1.2.3"
    assert steady("failed after 1m3.5s") == steady("failed after 2m0.1s")


CALLS = [
    (["git@github.com", "git-upload-pack 'x'"], ("github.com", 22, "git", "git-upload-pack 'x'")),
    (["-o", "SendEnv=GIT_PROTOCOL", "-p", "2222", "me@h", "c"], ("h", 2222, "me", "c")),
    (["-4", "-l", "me", "--", "h", "a", "b"], ("h", 22, "me", "a b")),
]


@pytest.mark.parametrize(("words", "found"), CALLS)
def test_arguments_as_git_gives_them_to_ssh(words: list[str], found: tuple[str, int, str, str]) -> None:
    call = parse_call(words, {"GIT_PROTOCOL": "version=2"})
    assert (call.host, call.port, call.user, call.command) == found
    assert call.protocol == "version=2"


def test_arguments_without_a_host_are_refused() -> None:
    with pytest.raises(SshError) as caught:
        parse_call(["-p", "22"], {})
    assert caught.value.problem == "input"


def test_known_hosts_of_other_servers_and_ports_do_not_count() -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    text = f"github.com {key}\n[git.lan]:2222 {key}\n"
    assert matching_keys(text, "github.com", 22) == ("ssh-ed25519 SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU",)
    assert matching_keys(text, "git.lan", 2222)
    assert not matching_keys(text, "git.lan", 22)
    assert not matching_keys("", "github.com", 22)
