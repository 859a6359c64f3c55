"""Rules on what does not build: kustomize's errors, paths, YAML, variables that nothing defines. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labkit.checks.repository.finding import Hit, Question, rule
from labkit.facts.repository import Cluster
from labkit.plan import Severity

_STRICT = (2, 9)


@rule("build-failed", Severity.ERROR, "every Kustomization builds").clusters
def find_build_errors(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield what kustomize refuses; Flux would apply nothing of that Kustomization."""
    for build in cluster.builds:
        for problem in build.problems:
            if problem.kind == "build":
                why = f"Kustomization {build.name} does not build: {problem.message}"
                yield (
                    problem.file,
                    problem.line,
                    why,
                    "correct it; until then Flux applies nothing of this Kustomization",
                )


@rule("flux-path-missing", Severity.ERROR, "every Kustomization's path exists").clusters
def find_missing_paths(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield Kustomizations whose path is not in the repository."""
    for build in cluster.builds:
        for problem in build.problems:
            if problem.kind == "path":
                why = f"Kustomization {build.name}: {problem.message}"
                yield problem.file, problem.line, why, "correct spec.path, or add the folder"


@rule("not-built", Severity.INFO, "every Kustomization can be built from this repository alone").clusters
def find_not_built(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield Kustomizations that need another repository: nothing is known of what they hold."""
    for build in cluster.builds:
        for problem in build.problems:
            if problem.kind == "remote":
                why = f"Kustomization {build.name} was not built: {problem.message}"
                yield problem.file, problem.line, why, "a copy in this repository could be checked"


@rule("flux-variable-undefined", Severity.ERROR, "every variable of postBuild has a value or a default").clusters
def find_undefined(cluster: Cluster, question: Question) -> Iterator[Hit]:
    """Yield variables without a value: since 2.9 the build fails, before they were empty."""
    strict = question.flux >= _STRICT
    for build in cluster.builds:
        for one in build.undefined:
            effect = "the build fails" if strict else "it becomes an empty text, and since Flux 2.9 the build fails"
            why = f"${{{one.name}}} has no value in postBuild of Kustomization {build.name} and no default: {effect}"
            remedy = f"define {one.name}, write ${{{one.name}:-default}}, or $${{{one.name}}} when it is meant as text"
            yield one.file, one.line, why, remedy, Severity.ERROR if strict else Severity.WARNING


@rule("yaml-invalid", Severity.WARNING, "every YAML file that is no template can be read").repository
def find_broken_files(question: Question) -> Iterator[Hit]:
    """Yield files that are no YAML, save those that a failed build names already."""
    facts = question.facts
    told = {problem.file for cluster in facts.clusters for build in cluster.builds for problem in build.problems}
    for file in facts.files:
        trouble = file.trouble or next(iter(file.repeated), None)
        unseen = file.is_template or file.is_sample or file.path in facts.ignored
        if trouble and not unseen and file.path not in told:
            yield (
                file.path,
                trouble.line,
                f"it is no valid YAML: {trouble.message}",
                "correct it, or rename it when it is none",
            )
